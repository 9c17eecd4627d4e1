"""The ways by which machines join and renew, with the controller's real actions at their other end.

To add a transport: one more function like ``over_grpc``, and its name in ``DOORS``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.clock import Clock, SystemClock
from agent.identity import keys
from agent.identity.token import Ticket, parse
from agent.transport.grpc.enrolment import EnrolmentClient
from agent.transport.link import Enrolment
from agent.transport.mqtt.enrolment import MqttEnrolment
from controller.broker import mosquitto as generator
from controller.broker.listeners import Door as Listener
from controller.enrolment import actions
from controller.enrolment.authority import KeyPair, create_authority, issue_server
from controller.enrolment.terms import BrokerTerms, Terms
from controller.errors import StoreError
from controller.store.store import Store
from controller.transport.grpc.enrolment_server import EnrolmentServer
from controller.transport.mqtt.loop import MqttBridge
from controller.transport.mqtt.voice import ControllerSeal
from controller.transport.sessions import Sessions
from protos.documents import Renewal
from protos.envelope import seal
from protos.mqtt import topics
from protos.mqtt.broker import Broker as BrokerAccess
from protos.mqtt.broker import Habits
from protos.mqtt.connection import BrokerClient, Incoming, connected
from protos.mqtt.topics import Leaf
from protos.v1 import common_pb2, enrolment_pb2
from simulations.memory_link import MemoryEnrolment
from simulations.memory_store import MemoryStore
from tests.brokers import Broker, mosquitto
from tests.contracts.centre import DEADLINE, Centre
from tests.contracts.networks import nothing_stands


@dataclass
class Office:
    """The controller's own actions, on a store in memory.

    Attributes:
        ahead: of the system's clock, by which the controller goes.
        lose_replies: what is asked is done, and the answer lost.
        gate: while it is shut, nothing that is asked over a wire is done.
        entered: how often something was asked over a wire.
    """

    server_authority: KeyPair = field(default_factory=lambda: create_authority("server", now()))
    device_authority: KeyPair = field(default_factory=lambda: create_authority("device", now()))
    store: Store = field(default_factory=MemoryStore)
    ahead: timedelta = timedelta()
    lose_replies: bool = False
    broker: BrokerTerms | None = None
    enrolment_address: str = "controller.example:1"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def terms(self) -> Terms:
        return Terms(
            device_authority=self.device_authority,
            server_ca_pem=self.server_authority.certificate_pem,
            root_metadata=b"root",
            enrolment_address=self.enrolment_address,
            session_address="controller.example:2",
            broker=self.broker,
        )

    def token(self, lifetime: float = 3600.0) -> str:
        with self.store.begin() as tx:
            at = (now() + self.ahead).timestamp()
            return actions.create_token(tx, self.terms, "ada", at, lifetime)[1]

    def meet(self, door: "OverMqtt") -> None:
        """From now on the controller names that broker."""
        access = door.access
        self.broker = BrokerTerms(door.broker.devices, access.address, access.ca_pem)

    def ticket(self, lifetime: float = 3600.0) -> Ticket:
        return parse(self.token(lifetime))

    def revoke(self, device: str) -> None:
        with self.store.begin() as tx:
            actions.revoke(tx, device, "ada", now().timestamp())

    def devices(self) -> list[str]:
        with self.store.read() as tx:
            return [device.id for device in tx.devices.all()]

    def server(self) -> KeyPair:
        return issue_server(self.server_authority, ["localhost"], now())

    def joined(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        with self.store.begin() as tx:
            reply = actions.join(tx, request, self.terms, (now() + self.ahead).timestamp())
        self._lose()
        return reply

    def renewed(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        with self.store.begin() as tx:
            reply = actions.renew(tx, request, self.terms, (now() + self.ahead).timestamp())
        self._lose()
        return reply

    async def join(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        await self._enter()
        return self.joined(request)

    async def renew(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        await self._enter()
        return self.renewed(request)

    async def _enter(self) -> None:
        async with self.changed:
            self.entered += 1
            self.changed.notify_all()
        await self.gate.wait()

    def _lose(self) -> None:
        if self.lose_replies:
            raise StoreError("the disk is on fire")


class Door(Protocol):
    """Where machines join one controller."""

    def enrolment(self, server_ca_pem: bytes) -> Enrolment:
        """A client that believes that CA alone."""
        ...

    async def close(self) -> None:
        """Nobody answers any more."""
        ...


class InMemory:
    def __init__(self, office: Office) -> None:
        self._enrolment = MemoryEnrolment(office.joined, office.renewed)

    def enrolment(self, server_ca_pem: bytes) -> Enrolment:
        del server_ca_pem
        return self._enrolment

    async def close(self) -> None:
        self._enrolment.lose_replies = True


@asynccontextmanager
async def in_memory(office: Office, _: Path) -> AsyncIterator[Door]:
    yield InMemory(office)


class OverGrpc:
    def __init__(self, server: EnrolmentServer, address: str) -> None:
        self._server = server
        self._address = address

    def enrolment(self, server_ca_pem: bytes) -> Enrolment:
        return EnrolmentClient(self._address, server_ca_pem)

    async def close(self) -> None:
        await self._server.stop(0)


@asynccontextmanager
async def over_grpc(office: Office, _: Path) -> AsyncIterator[Door]:
    server = EnrolmentServer(office.join, office.renew, office.server())
    office.enrolment_address = f"localhost:{await server.start('127.0.0.1:0')}"
    try:
        yield OverGrpc(server, office.enrolment_address)
    finally:
        await server.stop(0)


class OverMqtt:
    """Through a real Mosquitto, with the access lists that Muster makes."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    @property
    def access(self) -> BrokerAccess:
        ca_pem = self.broker.certificates.broker_authority.certificate_pem
        return BrokerAccess(self.broker.strangers, ca_pem)

    def enrolment(self, server_ca_pem: bytes) -> MqttEnrolment:
        return MqttEnrolment(self.access, server_ca_pem, now, DEADLINE)

    async def close(self) -> None:
        await self.broker.stop()


@asynccontextmanager
async def over_mqtt(office: Office, tmp_path: Path) -> AsyncIterator[OverMqtt]:
    async with mosquitto(tmp_path) as broker, at_the_broker(office, broker):
        door = OverMqtt(broker)
        office.meet(door)
        yield door


@asynccontextmanager
async def at_the_broker(
    office: Office,
    broker: Broker,
    sealing_key: X25519PrivateKey | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[MqttBridge]:
    """A controller that is there, and answers strangers."""
    endpoint, certificates = Centre().endpoint(), broker.certificates
    bridge = MqttBridge(
        endpoint,
        Sessions(endpoint),
        BrokerAccess(
            broker.controllers,
            certificates.broker_authority.certificate_pem,
            certificates.controller.certificate_pem,
            certificates.controller.key_pem,
        ),
        ControllerSeal(office.server(), sealing_key or X25519PrivateKey.generate()),
        office.device_authority.certificate_pem,
        clock or SystemClock(),
        nothing_stands,
    )
    bridge.serve_strangers(office.join, office.renew)
    serving = asyncio.create_task(bridge.run())
    try:
        async with asyncio.timeout(DEADLINE):
            await bridge.up()
        yield bridge
    finally:
        serving.cancel()
        await asyncio.wait([serving])


DOORS: dict[str, Callable[[Office, Path], AbstractAsyncContextManager[Door]]] = {
    "memory": in_memory,
    "grpc": over_grpc,
    "mqtt": over_mqtt,
}


def now() -> datetime:
    return datetime.now(UTC)


def wish(ticket: Ticket, key_pem: bytes, name: str = "cam-1") -> enrolment_pb2.JoinRequest:
    """What a machine with that key asks that has the token."""
    return enrolment_pb2.JoinRequest(
        token_id=ticket.id,
        token_secret=ticket.secret,
        csr_pem=keys.certificate_request(key_pem, name),
        name=name,
        facts=common_pb2.DeviceFacts(arch="x86_64"),
    )


def renewal(device: str, key_pem: bytes, counter: int) -> enrolment_pb2.RenewRequest:
    """What a device with that key asks in its time."""
    document = Renewal(
        device=device,
        counter=counter,
        csr_pem=keys.certificate_request(key_pem, device).decode(),
        requested_at=int(now().timestamp()),
    )
    envelope = common_pb2.Envelope.FromString(seal(document, keys.signer(key_pem)))
    return enrolment_pb2.RenewRequest(renewal=envelope)


class Recorder:
    """A broker that records all that it is given, and can give it again: to whom it likes.

    It has every right at the broker, and no key.
    """

    def __init__(self) -> None:
        self.client: BrokerClient
        self.seen: list[Incoming] = []
        self._changed = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()

    def of(self, leaf: Leaf) -> list[Incoming]:
        """What was seen of that kind, oldest first."""
        return [one for one in self.seen if _leaf(one) is leaf]

    async def until(self, leaf: Leaf, count: int = 1) -> Incoming:
        """The last of that kind, once so many were seen."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: len(self.of(leaf)) >= count)
        return self.of(leaf)[-1]

    def receive(self, incoming: Incoming) -> None:
        """Records it."""
        self.seen.append(incoming)
        task = asyncio.create_task(self._tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def recording(broker: Broker) -> AsyncIterator[Recorder]:
    """From now on; what is retained is recorded, too."""
    access_list = broker.folder / generator.acl_file(Listener.CONTROLLERS)
    access_list.write_text(f"user {topics.CONTROLLER}\ntopic readwrite #\n")
    await broker.revoke()  # it reads all of its files anew
    certificates = broker.certificates
    access = BrokerAccess(
        broker.controllers,
        certificates.broker_authority.certificate_pem,
        certificates.controller.certificate_pem,
        certificates.controller.key_pem,
    )
    recorder = Recorder()
    async with connected(access, "recorder", recorder.receive, Habits()) as recorder.client:
        await recorder.client.subscribe(["#"])
        yield recorder


def _leaf(incoming: Incoming) -> Leaf | None:
    address = topics.address(incoming.topic)
    return None if address is None else address.leaf
