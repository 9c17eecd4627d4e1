"""Controllers and devices, at a broker that lies."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.clock import SystemClock
from agent.identity import keys
from agent.transport.mqtt.dialer import DeviceAccess, MqttDialer
from agent.transport.mqtt.link import MqttLink
from agent.transport.mqtt.questions import Waits
from controller.enrolment.authority import KeyPair
from controller.transport.courier import Endpoint
from controller.transport.mqtt.loop import MqttBridge
from controller.transport.mqtt.voice import ControllerSeal
from controller.transport.sessions import Sessions
from protos.keys import Signer
from protos.methods import METADATA
from protos.mqtt.broker import Broker as Access
from protos.mqtt.sealing import UP, claim, unseal
from protos.mqtt.topics import Leaf
from protos.v1 import mqtt_pb2
from tests.attacks.mqtt.between import Between, Parcel, Toward, between
from tests.brokers import Certificates
from tests.contracts.centre import DEADLINE, Centre
from tests.contracts.networks import Authorities, Cable, nothing_stands


class Recorder(Centre):
    """A centre that notes what devices ask for, too."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, bytes]] = []
        self.admitted: list[tuple[str, str]] = []
        self.doors: list[asyncio.Event] = []  # who comes waits at the next of them
        self.gate.set()

    async def _metadata(self, device: str, request: bytes) -> bytes:
        self.asked.append((device, request))
        return await super()._metadata(device, request)

    async def _admit(self, device: str, certificate_serial: str) -> None:
        self.admitted.append((device, certificate_serial))
        if self.doors:
            await self.doors.pop(0).wait()
        await super()._admit(device, certificate_serial)

    async def _upload(self, device: str, request: bytes) -> bytes:
        self.asked.append((device, request))
        return await super()._upload(device, request)


@dataclass
class Controller:
    """One that is at the broker; it can be stopped as ``kill`` does, and as people do."""

    sessions: Sessions
    bridge: MqttBridge
    _serving: "asyncio.Task[None]"

    async def stop(self) -> None:
        """It says that it goes, and has gone."""
        self._serving.cancel()
        await asyncio.wait([self._serving])
        await self.sessions.settle()


@dataclass
class Machine:
    """A device: who it is, and what it has numbered so far."""

    name: str
    shown: KeyPair
    cable: Cable
    address: str
    sessions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    desired: list[bytes] = field(default_factory=list)

    @property
    def signer(self) -> Signer:
        """What nobody else can sign with."""
        return keys.signer(self.shown.key_pem)

    @property
    def der(self) -> bytes:
        """Its certificate."""
        return der(self.shown)


@dataclass
class Fleet:
    """All of it; ``rest`` ends it."""

    middle: Between
    certificates: Certificates
    authorities: Authorities
    centre: Recorder
    rest: AsyncExitStack
    sealing_key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    machines: dict[str, Machine] = field(default_factory=dict)
    controllers: list[Controller] = field(default_factory=list)

    async def controller(self, endpoint: Endpoint | None = None) -> Controller:
        """Another controller of this fleet; returns when it is at the broker."""
        endpoint = endpoint or self.centre.endpoint()
        sessions = Sessions(endpoint)
        bridge = MqttBridge(
            endpoint,
            sessions,
            Access(
                self.middle.brokers[Toward.CONTROLLERS].controllers,
                self.certificates.broker_authority.certificate_pem,
                self.certificates.controller.certificate_pem,
                self.certificates.controller.key_pem,
            ),
            ControllerSeal(self.authorities.controller, self.sealing_key),
            self.certificates.device_authority.certificate_pem,
            SystemClock(),
            nothing_stands,
        )
        made = Controller(sessions, bridge, asyncio.create_task(bridge.run()))
        self.controllers.append(made)
        self.rest.push_async_callback(made.stop)
        async with asyncio.timeout(DEADLINE):
            await bridge.up()
        return made

    async def machine(self, name: str) -> Machine:
        """The device of that name."""
        if name not in self.machines:
            cable = Cable(self.middle.brokers[Toward.DEVICES].ports.devices)
            self.rest.push_async_callback(cable.remove)
            address = f"localhost:{await cable.lay()}"
            self.machines[name] = Machine(name, self.certificates.device(name), cable, address)
        return self.machines[name]

    async def dialer(
        self,
        name: str,
        seconds: float = DEADLINE,
        waits: Waits = Waits(),  # noqa: B008 - it is frozen
        on_desired: Callable[[bytes], None] | None = None,
    ) -> MqttDialer:
        """Dials for that device."""
        machine = await self.machine(name)
        access = DeviceAccess(
            name,
            Access(machine.address, self.certificates.broker_authority.certificate_pem),
            self.authorities.server.certificate_pem,
            machine.shown.key_pem,
            lambda: machine.shown.certificate_pem,
            lambda: next(machine.sessions),
        )
        rng = random.Random(1)  # noqa: S311 - which controller, not secrets
        return MqttDialer(
            access,
            SystemClock(),
            rng,
            on_desired or machine.desired.append,
            timeout=seconds,
            will_delay=0,
            waits=waits,
        )

    async def link(self, name: str) -> MqttLink:
        """A link of that device."""
        link = await (await self.dialer(name)).dial()
        self.rest.push_async_callback(link.close)
        return link

    def opened(self, parcel: Parcel) -> mqtt_pb2.DeviceMessage:
        """What a device has said; only who has the controllers' key can tell."""
        return claim(unseal(parcel.payload, self.sealing_key, UP), mqtt_pb2.DeviceMessage).message

    def said(self, kind: str, device: str = "") -> list[Parcel]:
        """The parcels in which devices have said such a thing."""
        sealed = [*self.middle.of(Leaf.IN, device), *self.middle.of(Leaf.CALL, device)]
        return [one for one in sealed if self.opened(one).WhichOneof("kind") == kind]

    def state(self) -> mqtt_pb2.ControllerState:
        """The newest state of a controller, which everybody can read."""
        parcel = [one for one in self.middle.of(Leaf.STATE) if one.payload][-1]
        return claim(parcel.payload, mqtt_pb2.ControllerState).message


async def answers(link: MqttLink) -> bool:
    """Whether a call still gets the answer that is its own: all that came before was dealt with."""
    async with asyncio.timeout(DEADLINE):
        return (await link.call(METADATA.name, b"fence")).endswith(b"/fence")


def der(shown: KeyPair) -> bytes:
    """The certificate as messages carry it."""
    certificate = x509.load_pem_x509_certificate(shown.certificate_pem)
    return certificate.public_bytes(serialization.Encoding.DER)


@asynccontextmanager
async def fleet_at_a_bad_broker(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet with no controller yet, and no device."""
    certificates = Certificates.new()
    async with between(tmp_path, certificates) as middle, AsyncExitStack() as rest:
        yield Fleet(middle, certificates, Authorities.new(), Recorder(), rest)
