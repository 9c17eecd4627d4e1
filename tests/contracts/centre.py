"""What the controller's side does and has seen in the contracts of ``Link`` and ``Courier``."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from controller.errors import (
    Conflict,
    DeviceRevoked,
    InvalidInput,
    NotFound,
    StoreError,
    TooOften,
)
from controller.transport.dispatch import Dispatch
from protos.methods import FACTS, METADATA, READINESS, REPLY, UPLOAD
from protos.v1 import command_pb2, common_pb2, federated_pb2
from simulations.memory_intake import MemoryIntake

DEADLINE = 15.0


PIECE = 10_000


BLOB = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(5_000))


BLOB_SHA256 = hashlib.sha256(BLOB).hexdigest()


@dataclass
class Centre:
    """What the controller's side does and has seen in a test."""

    heard: list[tuple[str, str, bytes]] = field(default_factory=list)
    presence: list[tuple[str, str]] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    intake: MemoryIntake = field(default_factory=MemoryIntake)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    # While cleared, calls of UPLOAD, publications and blobs after their first piece do not go on.
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: defaultdict[str, asyncio.Event] = field(
        default_factory=lambda: defaultdict(asyncio.Event)
    )

    def endpoint(self) -> Dispatch:
        return Dispatch(
            actions={
                METADATA.name: self._metadata,
                UPLOAD.name: self._upload,
                REPLY.name: self.intake.reply,
            },
            listeners={FACTS: self._facts, READINESS: self.intake.hear},
            admission=self._admit,
            arrival=lambda device: self._note("up", device),
            departure=lambda device: self._note("down", device),
            blobs=self._blob,
        )

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE), self.changed:
            await self.changed.wait_for(happened)

    async def _metadata(self, device: str, request: bytes) -> bytes:
        if request == b"conflict":
            raise Conflict(f"{device} asked for a conflict")
        if request == b"often":
            raise TooOften(f"{device} asks too often", 1500)
        if request == b"broken":
            raise StoreError("the disk is on fire")
        return device.encode() + b"/" + request

    async def _upload(self, device: str, request: bytes) -> bytes:
        self.entered["call"].set()
        await self.gate.wait()
        return device.encode() + request

    async def _facts(self, device: str, payload: bytes) -> None:
        if payload == b"bad":
            raise InvalidInput("facts: bad")
        if payload == b"often":
            raise TooOften("facts: too often", 2500)
        self.entered["publish"].set()
        await self.gate.wait()
        self.heard.append((device, FACTS, payload))

    async def _admit(self, device: str, certificate_serial: str) -> None:
        assert certificate_serial
        if device in self.revoked:
            raise DeviceRevoked(f"device {device!r} was revoked")

    async def _note(self, event: str, device: str) -> None:
        async with self.changed:
            self.presence.append((event, device))
            self.changed.notify_all()

    async def _blob(
        self, device: str, sha256: str, offset: int, have: Sequence[str]
    ) -> AsyncIterator[bytes]:
        del device, have
        if sha256 != BLOB_SHA256:
            raise NotFound(f"no blob {sha256}")
        for start in range(offset, len(BLOB), PIECE):
            yield BLOB[start : start + PIECE]
            self.entered["fetch"].set()
            await self.gate.wait()


def directive(generation: int) -> bytes:
    """A command with a directive that only a test would send."""
    envelope = common_pb2.Envelope(payload=str(generation).encode())
    return command_pb2.Command(directive=envelope).SerializeToString()


def refresh() -> bytes:
    return command_pb2.Command(refresh_trust=command_pb2.RefreshTrust()).SerializeToString()


def order(task: str) -> bytes:
    """A command with a federated task; without, if it has no id."""
    federated = federated_pb2.FederatedOrder()
    if task:
        federated.task.task_id = task
        federated.task.remaining_ms = 60_000
    return command_pb2.Command(federated=federated).SerializeToString()
