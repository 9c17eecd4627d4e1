"""The controller's real enrolment without a network, and a device that joins it."""

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from agent.identity.actions import join
from agent.store.device_store import DeviceStore, Identity
from controller.enrolment import actions as desk
from controller.enrolment.authority import create_authority
from controller.enrolment.terms import Terms
from controller.store.store import Store
from protos.v1 import common_pb2, enrolment_pb2
from simulations.memory_link import MemoryEnrolment
from simulations.memory_store import MemoryStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = common_pb2.DeviceFacts(arch="x86_64")


def terms() -> Terms:
    return Terms(
        device_authority=create_authority("device CA", NOW),
        server_ca_pem=create_authority("server CA", NOW).certificate_pem,
        root_metadata=b"root",
        enrolment_address="controller.example:7443",
        session_address="controller.example:7444",
    )


@dataclass
class Controller:
    """The controller's real actions, without a network."""

    terms: Terms = field(default_factory=terms)
    store: Store = field(default_factory=MemoryStore)
    now: datetime = NOW
    keys_seen: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.enrolment = MemoryEnrolment(self._join, self._renew)

    def token(self) -> str:
        with self.store.begin() as tx:
            return desk.create_token(tx, self.terms, "ada", self.now.timestamp())[1]

    def revoke(self, device: str) -> None:
        with self.store.begin() as tx:
            desk.revoke(tx, device, "ada", self.now.timestamp())

    def devices(self) -> list[str]:
        with self.store.begin() as tx:
            return [device.id for device in tx.devices.all()]

    def _join(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        self.keys_seen.append(request.csr_pem)
        with self.store.begin() as tx:
            return desk.join(tx, request, self.terms, self.now.timestamp())

    def _renew(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        with self.store.begin() as tx:
            return desk.renew(tx, request, self.terms, self.now.timestamp())


async def enrol(
    controller: Controller, store: DeviceStore, key_path: Path, *, anew: bool = False
) -> Identity:
    dial = controller.enrolment.dial
    joined = await join(controller.token(), "cam-1", FACTS, key_path, store, NOW, dial, anew)
    return joined[0]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def leave(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def move(path: Path, target: Path) -> None:
    path.rename(target)


def open_to_all(path: Path) -> None:
    path.chmod(0o644)


def answering(
    controller: Controller, change: Callable[[enrolment_pb2.JoinReply], None]
) -> MemoryEnrolment:
    """Somebody in between who changes the controller's answers."""

    def joined(request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        with controller.store.begin() as tx:
            reply = desk.join(tx, request, controller.terms, NOW.timestamp())
        change(reply)
        return reply

    def renewed(request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        del request
        reply = enrolment_pb2.JoinReply()
        change(reply)
        return enrolment_pb2.RenewReply(certificate_pem=reply.certificate_pem)

    return MemoryEnrolment(joined, renewed)
