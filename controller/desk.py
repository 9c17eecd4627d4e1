"""What devices ask of the controller, whatever carries it: each one transaction, on a thread."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError

from agent.clock import Clock
from controller.enrolment import actions as enrolment
from controller.enrolment.terms import Terms
from controller.errors import InvalidInput, NotFound, TooOften
from controller.federated.intake.actions import Intake
from controller.fleet import actions as fleet
from controller.store.blob_store import BlobStore
from controller.store.store import Store, Transaction
from controller.telemetry import actions as telemetry
from controller.transport.dispatch import Dispatch, stream
from controller.transport.pace import Pace
from controller.transport.token_bucket import Rate
from protos.methods import FACTS, METADATA, READINESS, RENEW, REPLY, UPLOAD
from protos.v1 import device_pb2, enrolment_pb2

PIECES: Final = Rate(burst=200, per_second=50)
"""Of replies, of one device: 12 MiB a second in the long run."""
WORDS: Final = Rate(burst=20, per_second=0.5)
"""Of one device on whether it would train: an agent looks every five seconds."""

Result = TypeVar("Result")


class Rollouts(Protocol):
    """Who must know that a device came, or said something that may decide a rollout."""

    def wake(self) -> None:
        """Something may have changed. From any thread."""
        ...

    async def connected(self, device: str) -> None: ...  # noqa: D102


class Orders(Protocol):
    """Who tells devices what they shall do in federated runs."""

    async def connected(self, device: str) -> None: ...  # noqa: D102


class FederatedDesk:
    """Answers devices in federated runs; both fields are set once, before any transport is started.

    Attributes:
        intake: of what devices send; None where there are no such runs.
        orders: tells devices what they shall do.
    """

    def __init__(self, clock: Clock) -> None:
        self.intake: Intake | None = None
        self.orders: Orders | None = None
        self._clock = clock
        self._replies = Pace(PIECES)
        self._readiness = Pace(WORDS)

    async def reply(self, device: str, request: bytes) -> bytes:
        """Takes a piece of a reply to a task."""
        self._require_patience(self._replies, device)
        if self.intake is None:
            raise NotFound("there are no federated runs here")
        return await asyncio.to_thread(self.intake.reply, device, request, self._now_ms)

    async def readiness(self, device: str, payload: bytes) -> None:
        """Takes what the device says of whether it would train."""
        self._require_patience(self._readiness, device)
        if self.intake is not None:
            await asyncio.to_thread(self.intake.readiness, device, payload, self._now_ms())

    async def arrived(self, device: str) -> None:
        """Has the device told its task."""
        if self.orders is not None:
            await self.orders.connected(device)

    def _require_patience(self, pace: Pace, device: str) -> None:
        """Before anything is read, or anybody waits for it."""
        wait_ms = pace.wait_ms(device, self._clock.monotonic())
        if wait_ms:
            raise TooOften(f"device {device!r} asks faster than it may: in {wait_ms} ms", wait_ms)

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


class DeviceDesk:
    """Answers devices.

    ``rollouts`` is set once, before any transport is started, and so is ``linked``: whether this
    controller holds the device's link, asked on any thread.
    """

    rollouts: Rollouts

    def __init__(self, store: Store, blobs: BlobStore, clock: Clock, terms: Terms) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._terms = terms
        self.federated = FederatedDesk(clock)
        self.linked: Callable[[str], bool] = lambda _: False

    def dispatch(self) -> Dispatch:
        """The one endpoint that every transport asks."""
        return Dispatch(
            actions={
                METADATA.name: self.metadata,
                UPLOAD.name: self.upload,
                RENEW.name: self.renewal,
                REPLY.name: self.federated.reply,
            },
            listeners={FACTS: self.facts, READINESS: self.federated.readiness},
            admission=self.admit,
            arrival=self.arrived,
            departure=self.departed,
            blobs=self.fetch,
        )

    async def join(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        """Makes a device of whoever has a join token."""
        return await self._within(lambda tx: enrolment.join(tx, request, self._terms, self._now()))

    async def renew(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        """A new certificate for a device that proves that it holds its key."""
        return await self._within(lambda tx: enrolment.renew(tx, request, self._terms, self._now()))

    async def renewal(self, _: str, request: bytes) -> bytes:
        """As ``renew``, over the device's link: the wish itself says who it is from, and proves it."""
        try:
            wish = enrolment_pb2.RenewRequest.FromString(request)
        except DecodeError as error:
            raise InvalidInput("renew: a request that can't be read") from error
        return (await self.renew(wish)).SerializeToString()

    async def metadata(self, _: str, request: bytes) -> bytes:
        """Image metadata by file name; devices verify it themselves."""
        try:
            name = device_pb2.MetadataRequest.FromString(request).name
        except DecodeError as error:
            raise InvalidInput("metadata: a request that can't be read") from error
        data = await self._reading(lambda tx: tx.metadata.get(name))
        if data is None:
            raise NotFound(f"no metadata {name[:64]!r}")
        return device_pb2.MetadataReply(data=data).SerializeToString()

    async def upload(self, device: str, request: bytes) -> bytes:
        """Stores telemetry, exactly once."""
        return await asyncio.to_thread(
            telemetry.upload,
            self._store,
            device,
            request,
            self._now(),
            self.rollouts.wake,
            partial(self.linked, device),
        )

    async def facts(self, device: str, payload: bytes) -> None:
        """Takes what the device says that it is."""
        if await self._within(lambda tx: fleet.update_facts(tx, device, payload)):
            self.rollouts.wake()

    async def admit(self, device: str, certificate_serial: str) -> None:
        """Returns if the device may connect."""
        await self._reading(lambda tx: enrolment.admit(tx, device, certificate_serial))

    async def arrived(self, device: str) -> None:
        """Notes the device's presence, and has it told its newest directive and its task."""
        await self._within(lambda tx: tx.devices.touch(device, self._now(), connected=True))
        await self.rollouts.connected(device)
        await self.federated.arrived(device)

    async def departed(self, device: str) -> None:
        """Notes the device's absence."""
        await self._within(lambda tx: tx.devices.touch(device, self._now(), connected=False))

    def fetch(
        self,
        device: str,  # noqa: ARG002 - every enrolled device may have every blob: digests decide
        sha256: str,
        offset: int,
        have: Sequence[str],  # noqa: ARG002 - whole files only: no deltas are offered
    ) -> AsyncIterator[bytes]:
        """Streams a blob."""
        return stream(self._blobs, sha256, offset)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    async def _within(self, act: Callable[[Transaction], Result]) -> Result:
        def run() -> Result:
            with self._store.begin() as tx:
                return act(tx)

        return await asyncio.to_thread(run)

    async def _reading(self, ask: Callable[[Transaction], Result]) -> Result:
        def run() -> Result:
            with self._store.read() as tx:
                return ask(tx)

        return await asyncio.to_thread(run)
