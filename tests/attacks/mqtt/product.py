"""The real parts of the product on both sides of a broker that lies: what is signed, told and stored."""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from agent.clock import SystemClock
from agent.commands import Commands
from agent.errors import AgentError
from agent.identity import keys
from agent.install.report import report
from agent.store.device_store import Identity
from agent.telemetry.actions import Reporter
from agent.telemetry.loop import UploadLoop
from agent.transport import controller_client
from agent.transport.backoff import Backoff
from agent.transport.connection import Connection
from agent.transport.link import Link
from agent.transport.mqtt.questions import Waits
from agent.transport.route import Patience, Route, looks_every
from agent.trust.actions import ImageTrust
from agent.trust.loop import DirectiveLoop, RefreshLoop
from controller.desk import DeviceDesk
from controller.enrolment.terms import Terms
from controller.errors import DeviceOffline
from controller.fleet.device import Device
from controller.telemetry.record import StoredEvent, StoredReport
from protos.documents import Directive
from protos.methods import METADATA
from protos.v1 import command_pb2, common_pb2, telemetry_pb2
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_device_store import MemoryDeviceStore
from tests.attacks.mqtt.fleet import Controller, Fleet, Machine
from tests.attacks.world import World, manifest

WAITS = Waits(call=0.5, chunk=0.5)
DIAL_SECONDS = 0.5
PATIENCE = Patience(
    unanswered=Backoff(base=1.0, cap=4.0),
    refused=Backoff(base=1.0, cap=4.0),
    looks=looks_every(300.0),
    stable_after=60.0,
)


class Hurried(SystemClock):
    """A clock by which whoever waits before another try waits a thousandth of it."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 1000)


class Centre:
    """A controller's real desk; it directs devices as rollouts do."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.world = World()
        for version in (1, 2):
            self.world.publish(manifest("digits", version))
        self.store = self.world.store
        self.blobs = MemoryControllerBlobs()
        terms = Terms(
            fleet.certificates.device_authority,
            fleet.authorities.server.certificate_pem,
            self.world.root,
            "",
            "",
        )
        self.desk = DeviceDesk(self.store, self.blobs, SystemClock(), terms)
        self.desk.rollouts = self
        self.newest: dict[str, bytes] = {}
        self.issued: dict[str, list[int]] = {}

    async def controller(self) -> Controller:
        """Another controller on the same store."""
        return await self.fleet.controller(self.desk.dispatch())

    def enrol(self, machine: Machine) -> None:
        """The device is known from now."""
        shown = keys.read_certificate(machine.shown.certificate_pem)
        device = Device(
            machine.name,
            datetime.now(UTC).timestamp(),
            shown.public_key_pem,
            shown.serial,
            shown.not_after.timestamp(),
        )
        with self.store.begin() as tx:
            tx.devices.put(device)

    def wake(self) -> None:
        """Nothing is decided by what devices say."""

    async def connected(self, device: str) -> None:
        """Tells the device its newest directive."""
        if device in self.newest:
            directive = common_pb2.Envelope.FromString(self.newest[device])
            command = command_pb2.Command(directive=directive).SerializeToString()
            with suppress(DeviceOffline):
                await self.fleet.controllers[-1].sessions.send(device, command)

    async def direct(self, device: str) -> None:
        """A new directive for the device."""
        generations = self.issued.setdefault(device, [])
        generations.append(len(generations) + 1)
        assignment = self.world.assignment("digits", 1 + len(generations) % 2)
        self.newest[device] = self.world.directive(generations[-1], assignment, device=device)
        await self.connected(device)

    def events(self, device: str) -> list[StoredEvent]:
        """What is stored of it, in its order."""
        with self.store.read() as tx:
            return sorted(tx.telemetry.events(device, 10_000), key=lambda one: one.sequence)

    def reports(self, device: str) -> list[StoredReport]:
        """What is stored of it, in its order."""
        with self.store.read() as tx:
            return sorted(tx.telemetry.reports(device, 10_000), key=lambda one: one.counter)

    def stored_through(self, device: str, spool: str) -> int:
        """How far its records are stored."""
        with self.store.read() as tx:
            return tx.telemetry.stored_through(device, spool)


class Product:
    """A device as ``agent.app`` wires it, but for the installs."""

    def __init__(self, centre: Centre, machine: Machine) -> None:
        self.centre, self.machine = centre, machine
        self.name = machine.name
        self.store = MemoryDeviceStore()
        root = centre.world.root
        self.store.identity.save(Identity(self.name, b"", b"", "", "", root_metadata=root))
        machine.sessions = iter(self.store.identity.next_counter, 0)
        self.accepted: list[Directive] = []
        self.refused: list[AgentError] = []
        self.forgotten_too_early: list[int] = []
        self.told: list[str] = []
        self.reported = 0
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """From what it has stored, as after a power cut."""
        clock, rng = Hurried(), random.Random(3)  # noqa: S311 - no secret depends on it
        trust = ImageTrust(self.store, clock, "1.4.0")
        commands = Commands()
        dialer = await self.centre.fleet.dialer(self.name, DIAL_SECONDS, WAITS, commands.offer)
        self.connection = Connection(
            [Route("mqtt", dialer)], clock, rng, commands.take, self._on_up, PATIENCE
        )
        commands.directives = DirectiveLoop(
            trust, self._metadata, self.accepted.append, self.refused.append, clock, rng
        )
        commands.refreshes = RefreshLoop(trust, self._metadata, self._on_limits, clock, rng)
        self.uploads = UploadLoop(self.store, self._upload, clock, rng)
        build = partial(report, device=self.name, agent_version="1.4.0", loaded={})
        self._reporter = Reporter(self.store, self.machine.signer, build, clock)
        loops = (self.connection.run(), commands.directives.run(), self.uploads.run())
        self._running = [asyncio.create_task(one) for one in loops]

    async def stop(self) -> None:
        """As a power cut does: nothing is said."""
        self.machine.cable.cut()
        for task in self._running:
            task.cancel()
        await asyncio.wait(self._running)

    def tell(self) -> None:
        """Something has happened, and a report says how things are."""
        self.told.append(f"event.{len(self.told)}")
        self._reporter.event(self.told[-1])
        self._reporter.report()
        self.reported += 1
        self.uploads.wake()

    @property
    def is_done(self) -> bool:
        """Whether all was told, and the newest directive is the one that counts."""
        issued = self.centre.issued.get(self.name, [0])
        return not len(self.store.spool) and self.store.installs.generation() == issued[-1]

    def _metadata(self, name: str) -> bytes:
        request = controller_client.metadata_request(name)
        reply = self.connection.call_blocking(METADATA.name, request, 5.0)
        return controller_client.metadata_reply(reply)

    async def _upload(self, request: telemetry_pb2.UploadRequest) -> telemetry_pb2.UploadReply:
        reply = await controller_client.upload(await self.connection.link(), request)
        if reply.stored_through > self.centre.stored_through(self.name, request.spool_id):
            self.forgotten_too_early.append(reply.stored_through)
        return reply

    async def _on_up(self, link: Link) -> None:
        del link
        self.uploads.link_up()

    async def _on_limits(self) -> None:
        """Nothing runs here."""
