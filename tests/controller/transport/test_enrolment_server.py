"""Joining and renewing over real TLS, from the token's text to the identity in the store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from agent.errors import Refused, TransportError, WrongController
from agent.identity.actions import device_key, join, renew
from agent.store.device_store import Identity
from agent.transport.grpc.channel import Unary, open_channel
from agent.transport.grpc.enrolment import EnrolmentClient, over_grpc
from agent.transport.grpc.link import GrpcDialer
from agent.transport.link import Link
from controller.enrolment import actions as desk
from controller.enrolment.authority import KeyPair, create_authority, issue_server
from controller.enrolment.terms import Terms
from controller.errors import ConfigError
from controller.store.store import Store
from controller.transport.grpc.enrolment_server import EnrolmentServer
from controller.transport.grpc.server import CALLS, GrpcServer
from controller.transport.sessions import Sessions
from controller.transport.token_bucket import Rate
from protos.methods import METADATA, UPLOAD
from protos.v1 import common_pb2, enrolment_pb2
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_store import MemoryStore
from tests.contracts.centre import DEADLINE, Centre

FACTS = common_pb2.DeviceFacts(arch="x86_64")
RATE = Rate(burst=3, per_second=0.1)
CONNECTIONS = 8


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Controller:
    """Both ports of a controller, over real actions and a store in memory."""

    server_authority: KeyPair = field(default_factory=lambda: create_authority("server", now()))
    device_authority: KeyPair = field(default_factory=lambda: create_authority("device", now()))
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1")
    store: Store = field(default_factory=MemoryStore)
    centre: Centre = field(default_factory=Centre)
    time: float = 0.0
    ahead: timedelta = timedelta()

    async def start(self) -> None:
        self.centre.gate.set()
        server = issue_server(self.server_authority, self.hosts, now())
        self.enrolment = EnrolmentServer(
            self._join, self._renew, server, RATE, lambda: self.time, connections=CONNECTIONS
        )
        ca_pem = self.device_authority.certificate_pem
        endpoint = replace(self.centre.endpoint(), admission=self._admit)
        self.courier = Sessions(endpoint)
        self.devices = GrpcServer(endpoint, self.courier, server, ca_pem)
        session = await self.devices.start("127.0.0.1:0")
        enrolment = await self.enrolment.start("127.0.0.1:0")
        self.terms = Terms(
            device_authority=self.device_authority,
            server_ca_pem=self.server_authority.certificate_pem,
            root_metadata=b"root",
            enrolment_address=f"localhost:{enrolment}",
            session_address=f"localhost:{session}",
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Controller"]:
        await self.start()
        try:
            yield self
        finally:
            await self.enrolment.stop(0)
            await self.devices.stop(0)

    def token(self) -> str:
        with self.store.begin() as tx:
            return desk.create_token(tx, self.terms, "ada", now().timestamp())[1]

    async def revoke(self, device: str) -> None:
        with self.store.begin() as tx:
            desk.revoke(tx, device, "ada", now().timestamp())
        await self.courier.disconnect(device)

    async def _join(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        with self.store.begin() as tx:
            return desk.join(tx, request, self.terms, (now() + self.ahead).timestamp())

    async def _renew(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        with self.store.begin() as tx:
            return desk.renew(tx, request, self.terms, (now() + self.ahead).timestamp())

    async def _admit(self, device: str, serial: str) -> None:
        with self.store.begin() as tx:
            desk.admit(tx, device, serial)


@pytest.fixture
async def controller() -> AsyncIterator[Controller]:
    async with Controller().serving() as controller:
        yield controller


@pytest.fixture
async def other() -> AsyncIterator[Controller]:
    async with Controller().serving() as other:
        yield other


async def enrol(token: str, key_path: Path, store: MemoryDeviceStore) -> Identity:
    return (await join(token, "cam-1", FACTS, key_path, store, now(), over_grpc))[0]


def dialer(
    identity: Identity, key_path: Path, certificate: Callable[[], bytes] | None = None
) -> GrpcDialer:
    return GrpcDialer(
        identity.session_address,
        identity.server_ca_pem,
        device_key(key_path, identity),
        certificate or (lambda: identity.certificate_pem),
        timeout=DEADLINE,
    )


async def first_command(link: Link) -> bytes:
    return await anext(link.commands())


async def test_a_device_joins_connects_renews_and_connects_again(
    controller: Controller, tmp_path: Path
) -> None:
    store, key_path = MemoryDeviceStore(), tmp_path / "key"
    identity = await enrol(controller.token(), key_path, store)
    renewed = await renew(key_path, store, now(), over_grpc)
    assert renewed.certificate_pem != identity.certificate_pem

    for one in (identity, renewed):
        link = await dialer(one, key_path).dial()
        assert await link.call(METADATA.name, b"x") == b"cam-1/x"
        await link.close()


async def test_revocation_cuts_a_live_connection_and_every_way_back(
    controller: Controller, tmp_path: Path
) -> None:
    store, key_path = MemoryDeviceStore(), tmp_path / "key"
    identity = await enrol(controller.token(), key_path, store)
    link = await dialer(identity, key_path).dial()
    waiting = asyncio.create_task(first_command(link))
    await controller.revoke("cam-1")

    with pytest.raises(TransportError):
        await asyncio.wait_for(waiting, DEADLINE)
    for work in (dialer(identity, key_path).dial(), renew(key_path, store, now(), over_grpc)):
        with pytest.raises(Refused) as caught:
            await work
        assert caught.value.code == "device-revoked"
    await link.close()


async def test_strangers_can_hold_so_many_connections_and_no_more(controller: Controller) -> None:
    host, _, port = controller.terms.enrolment_address.rpartition(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(2 * CONNECTIONS)]
    reading = {asyncio.ensure_future(reader.read(1)) for reader, _ in opened}

    ended = 0
    while ended < CONNECTIONS:
        done, reading = await asyncio.wait(
            reading, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
        )
        assert done
        ended += len(done)

    for one in reading:
        one.cancel()
    for _, writer in opened:
        writer.close()


async def test_one_device_has_so_many_calls_at_once_and_no_more(
    controller: Controller, tmp_path: Path
) -> None:
    """Over several connections, as each has a limit of its own."""
    key_path = tmp_path / "key"
    identity = await enrol(controller.token(), key_path, MemoryDeviceStore())
    credentials = grpc.ssl_channel_credentials(
        identity.server_ca_pem, device_key(key_path, identity), identity.certificate_pem
    )
    controller.centre.gate.clear()
    channels = [open_channel(identity.session_address, credentials) for _ in range(2)]
    asks: list[Unary] = [channel.unary_unary(UPLOAD.grpc_path) for channel in channels]
    calls = {asyncio.ensure_future(ask(b"x")) for ask in asks for _ in range(CALLS // 2 + 5)}

    refused: list[grpc.StatusCode] = []
    while len(refused) < 10:
        done, calls = await asyncio.wait(
            calls, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
        )
        errors = [one.exception() for one in done]
        refused += [one.code() for one in errors if isinstance(one, grpc.aio.AioRpcError)]
        assert done

    controller.centre.gate.set()
    assert await asyncio.gather(*calls) == [b"cam-1x"] * CALLS
    assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    for channel in channels:
        await channel.close()


async def test_a_token_for_another_controller_is_refused_by_the_device(
    controller: Controller, other: Controller, tmp_path: Path
) -> None:
    """Somebody in between answers at the address that the token names."""
    controller.terms = replace(controller.terms, enrolment_address=other.terms.enrolment_address)
    store = MemoryDeviceStore()
    with pytest.raises(WrongController, match="this token is for another controller") as caught:
        await enrol(controller.token(), tmp_path / "key", store)

    assert "muster token create" in caught.value.remedy
    assert store.identity.load() is None


async def test_a_certificate_for_another_address_is_refused_by_the_device(
    tmp_path: Path,
) -> None:
    async with Controller(hosts=("elsewhere.example",)).serving() as controller:
        with pytest.raises(WrongController, match="another address"):
            await enrol(controller.token(), tmp_path / "key", MemoryDeviceStore())


async def test_a_controller_by_ip_address_is_reached(
    controller: Controller, tmp_path: Path
) -> None:
    address = controller.terms.enrolment_address.replace("localhost", "127.0.0.1")
    controller.terms = replace(controller.terms, enrolment_address=address)

    assert (await enrol(controller.token(), tmp_path / "key", MemoryDeviceStore())).device


async def test_a_used_token_is_refused_with_its_reason(
    controller: Controller, tmp_path: Path
) -> None:
    token = controller.token()
    await enrol(token, tmp_path / "key", MemoryDeviceStore())

    with pytest.raises(Refused, match="by 'cam-1'") as caught:
        await enrol(token, tmp_path / "other", MemoryDeviceStore())
    assert caught.value.code == "token-used"


async def test_the_controllers_clock_decides_on_an_expired_token(
    controller: Controller, tmp_path: Path
) -> None:
    token = controller.token()
    controller.ahead = timedelta(hours=2)

    with pytest.raises(Refused) as caught:
        await enrol(token, tmp_path / "key", MemoryDeviceStore())
    assert caught.value.code == "token-expired"


async def test_nobody_there_is_a_transport_error(tmp_path: Path) -> None:
    async with Controller().serving() as controller:
        token = controller.token()

    with pytest.raises(TransportError):
        await enrol(token, tmp_path / "key", MemoryDeviceStore())


async def test_failed_attempts_are_limited_and_time_heals(controller: Controller) -> None:
    client = EnrolmentClient(controller.terms.enrolment_address, controller.terms.server_ca_pem)
    codes = []
    for _ in range(5):
        with pytest.raises(Refused) as caught:
            await client.join(enrolment_pb2.JoinRequest(token_id="x", token_secret="y"))
        codes.append(caught.value.code)
    assert codes == ["token-unknown"] * 3 + ["too-many-attempts"] * 2

    controller.time += 100.0
    with pytest.raises(Refused) as caught:
        await client.join(enrolment_pb2.JoinRequest(token_id="x", token_secret="y"))
    assert caught.value.code == "token-unknown"


async def test_joins_that_succeed_are_not_limited(controller: Controller, tmp_path: Path) -> None:
    for number in range(6):
        await enrol(controller.token(), tmp_path / str(number), MemoryDeviceStore())


async def test_a_request_that_is_too_large_never_reaches_the_action(
    controller: Controller,
) -> None:
    client = EnrolmentClient(controller.terms.enrolment_address, controller.terms.server_ca_pem)

    with pytest.raises(TransportError):
        await client.join(enrolment_pb2.JoinRequest(csr_pem=b"x" * 100_000))


async def test_a_device_of_another_controller_can_not_connect(
    controller: Controller, other: Controller, tmp_path: Path
) -> None:
    """Its certificate is good, but another CA has signed it."""
    identity = await enrol(other.token(), tmp_path / "key", MemoryDeviceStore())
    here = replace(
        identity,
        session_address=controller.terms.session_address,
        server_ca_pem=controller.terms.server_ca_pem,
    )

    with pytest.raises(TransportError):
        await dialer(here, tmp_path / "key").dial()


async def test_an_expired_certificate_does_not_connect_but_renews(
    controller: Controller, tmp_path: Path
) -> None:
    store, key_path = MemoryDeviceStore(), tmp_path / "key"
    controller.ahead = -timedelta(days=40)
    token = controller.token()
    expired = await enrol(token, key_path, store)
    with pytest.raises(TransportError):
        await dialer(expired, key_path).dial()

    controller.ahead = timedelta()
    renewed = await renew(key_path, store, now(), over_grpc)
    link = await dialer(renewed, key_path).dial()
    await link.close()


async def test_the_dialer_takes_the_certificate_of_the_moment(
    controller: Controller, tmp_path: Path
) -> None:
    store, key_path = MemoryDeviceStore(), tmp_path / "key"
    controller.ahead = -timedelta(days=40)
    current = [await enrol(controller.token(), key_path, store)]
    lasting = dialer(current[0], key_path, lambda: current[0].certificate_pem)
    with pytest.raises(TransportError):
        await lasting.dial()

    controller.ahead = timedelta()
    current[0] = await renew(key_path, store, now(), over_grpc)
    await (await lasting.dial()).close()


async def test_without_a_certificate_there_is_no_session(controller: Controller) -> None:
    credentials = grpc.ssl_channel_credentials(controller.terms.server_ca_pem)
    async with grpc.aio.secure_channel(controller.terms.session_address, credentials) as channel:
        ask: Unary = channel.unary_unary("/muster.v1.Device/Metadata")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(b"", timeout=DEADLINE)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_port_that_is_taken_is_named(controller: Controller) -> None:
    address = controller.terms.session_address.replace("localhost", "127.0.0.1")
    endpoint = controller.centre.endpoint()
    second = GrpcServer(
        endpoint,
        Sessions(endpoint),
        issue_server(controller.server_authority, ["localhost"], now()),
        controller.device_authority.certificate_pem,
    )

    with pytest.raises(ConfigError, match=address):
        await second.start(address)
