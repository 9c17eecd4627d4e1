"""The networks that the contracts of ``Link`` and ``Courier`` run on.

To add a transport: one more class like ``GrpcNetwork``, and its name in ``NETWORKS``.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.clock import SystemClock
from agent.identity import keys
from agent.transport.grpc.link import GrpcDialer
from agent.transport.link import Dialer
from agent.transport.mqtt.dialer import DeviceAccess, MqttDialer
from agent.transport.mqtt.questions import Waits
from controller.enrolment.authority import (
    KeyPair,
    check_request,
    create_authority,
    issue_device,
    issue_server,
)
from controller.transport.courier import Courier
from controller.transport.dispatch import Dispatch
from controller.transport.grpc.server import GrpcServer
from controller.transport.mqtt.loop import MqttBridge, Posts
from controller.transport.mqtt.voice import ControllerSeal
from controller.transport.sessions import Sessions
from protos.mqtt.broker import Broker as BrokerAccess
from simulations.memory_link import MemoryNetwork
from tests.brokers import Broker, mosquitto
from tests.contracts.centre import DEADLINE, Centre


class Network(Protocol):
    """A courier, and devices that can dial it."""

    @property
    def courier(self) -> Courier: ...

    async def dialer(self, device: str) -> Dialer: ...

    async def cut(self, device: str) -> None:
        """Breaks the device's link from beneath: neither side has asked for it."""
        ...

    async def isolate(self, device: str) -> None:
        """Nobody answers the device any more."""
        ...


class InMemory:
    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network

    @property
    def courier(self) -> Courier:
        return self._network

    async def dialer(self, device: str) -> Dialer:
        return self._network.dialer(device)

    async def cut(self, device: str) -> None:
        self._network.cut(device)

    async def isolate(self, device: str) -> None:
        self._network.isolate(device)


@asynccontextmanager
async def memory(centre: Centre, _: Path) -> AsyncIterator[Network]:
    network = MemoryNetwork(centre.endpoint())
    yield InMemory(network)
    await network.settle()


class Cable:
    """A TCP relay that can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.plugged = True

    async def lay(self) -> int:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        for end in tuple(self._ends):
            end.transport.abort()

    async def remove(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._ends.add(writer)
        if not self.plugged:
            self.cut()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends.add(far_writer)
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.transport.abort()
                self._ends.discard(end)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    writer.transport.abort()


@dataclass(frozen=True)
class Authorities:
    server: KeyPair
    device: KeyPair
    controller: KeyPair

    @staticmethod
    def new() -> "Authorities":
        now = datetime.now(UTC)
        server = create_authority("server CA", now)
        controller = issue_server(server, ["localhost", "127.0.0.1"], now)
        return Authorities(server, create_authority("device CA", now), controller)


class OverGrpc:
    def __init__(self, courier: Sessions, port: int, authorities: Authorities) -> None:
        self._courier = courier
        self._port = port
        self._authorities = authorities
        self.cables: dict[str, Cable] = {}

    @property
    def courier(self) -> Courier:
        return self._courier

    async def dialer(self, device: str) -> Dialer:
        cable = self.cables.setdefault(device, Cable(self._port))
        port = await cable.lay()
        key_pem = keys.generate_key()
        request = check_request(keys.certificate_request(key_pem, device))
        issued = issue_device(self._authorities.device, request, device, datetime.now(UTC))
        return GrpcDialer(
            f"localhost:{port}",
            self._authorities.server.certificate_pem,
            key_pem,
            lambda: issued.certificate_pem,
        )

    async def cut(self, device: str) -> None:
        self.cables[device].cut()

    async def isolate(self, device: str) -> None:
        self.cables[device].plugged = False
        self.cables[device].cut()


@asynccontextmanager
async def grpc(centre: Centre, _: Path) -> AsyncIterator[Network]:
    authorities = Authorities.new()
    sessions = Sessions(centre.endpoint())
    server = GrpcServer(
        centre.endpoint(), sessions, authorities.controller, authorities.device.certificate_pem
    )
    network = OverGrpc(sessions, await server.start("127.0.0.1:0"), authorities)
    try:
        yield network
    finally:
        await server.stop(grace=0)
        for cable in network.cables.values():
            await cable.remove()


class OverMqtt:
    """Through a real Mosquitto, with the access lists that Muster makes."""

    def __init__(
        self,
        courier: Sessions,
        broker: Broker,
        server_ca_pem: bytes,
    ) -> None:
        self._courier = courier
        self._broker = broker
        self._server_ca_pem = server_ca_pem
        self.cables: dict[str, Cable] = {}
        self.desired: list[bytes] = []

    @property
    def courier(self) -> Courier:
        return self._courier

    async def dialer(
        self,
        device: str,
        seed: int = 1,
        waits: Waits = Waits(),  # noqa: B008 - it is frozen
    ) -> MqttDialer:
        cable = self.cables.setdefault(device, Cable(self._broker.ports.devices))
        port = await cable.lay()
        shown = self._broker.certificates.device(device)
        sessions = itertools.count(1)
        access = DeviceAccess(
            device,
            BrokerAccess(
                f"localhost:{port}", self._broker.certificates.broker_authority.certificate_pem
            ),
            self._server_ca_pem,
            shown.key_pem,
            lambda: shown.certificate_pem,
            lambda: next(sessions),
        )
        rng = random.Random(seed)  # noqa: S311 - which controller, not secrets
        return MqttDialer(
            access, SystemClock(), rng, self.desired.append, will_delay=1, waits=waits
        )

    async def cut(self, device: str) -> None:
        self.cables[device].cut()

    async def isolate(self, device: str) -> None:
        self.cables[device].plugged = False
        self.cables[device].cut()


async def nothing_stands() -> AsyncIterator[Sequence[tuple[str, bytes]]]:
    """No directives that the broker would have to be told again."""
    if ():
        yield ()


def bridge_to(
    broker: Broker,
    endpoint: Dispatch,
    sessions: Sessions,
    own: ControllerSeal,
    *,
    address: str = "",
    standing: Callable[[], Posts] = nothing_stands,
) -> MqttBridge:
    """A controller's end of links through the broker, which it reaches at another address if given."""
    certificates = broker.certificates
    access = BrokerAccess(
        address or broker.controllers,
        certificates.broker_authority.certificate_pem,
        certificates.controller.certificate_pem,
        certificates.controller.key_pem,
    )
    device_ca_pem = certificates.device_authority.certificate_pem
    return MqttBridge(endpoint, sessions, access, own, device_ca_pem, SystemClock(), standing)


@asynccontextmanager
async def mqtt(centre: Centre, tmp_path: Path) -> AsyncIterator[Network]:
    authorities = Authorities.new()
    own = ControllerSeal(authorities.controller, X25519PrivateKey.generate())
    async with mosquitto(tmp_path) as broker:
        sessions = Sessions(centre.endpoint())
        bridge = bridge_to(broker, centre.endpoint(), sessions, own)
        serving = asyncio.create_task(bridge.run())
        async with asyncio.timeout(DEADLINE):
            await bridge.up()
        network = OverMqtt(sessions, broker, authorities.server.certificate_pem)
        try:
            yield network
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            await sessions.settle()
            for cable in network.cables.values():
                await cable.remove()


NETWORKS: dict[str, Callable[[Centre, Path], AbstractAsyncContextManager[Network]]] = {
    "memory": memory,
    "grpc": grpc,
    "mqtt": mqtt,
}
