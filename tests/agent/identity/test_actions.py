import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import (
    AlreadyEnrolled,
    BadToken,
    ExpiredToken,
    Refused,
    StoreError,
    TransportError,
    Untrusted,
    WrongController,
)
from agent.identity import keys
from agent.identity.actions import device_key, join, renew
from agent.store.device_store import DeviceStore, Identity, TrustedState
from controller.enrolment import actions as desk
from controller.enrolment.authority import check_request, create_authority, issue_device
from controller.enrolment.terms import Terms
from controller.store.store import Store
from protos.v1 import common_pb2, enrolment_pb2
from simulations.memory_device_store import MemoryDeviceStore
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


@pytest.fixture
def controller() -> Controller:
    return Controller()


@pytest.fixture
def store() -> MemoryDeviceStore:
    return MemoryDeviceStore()


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    return tmp_path / "device" / "key.pem"


async def enrol(
    controller: Controller, store: DeviceStore, key_path: Path, *, anew: bool = False
) -> Identity:
    dial = controller.enrolment.dial
    return await join(controller.token(), "cam-1", FACTS, key_path, store, NOW, dial, anew)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def leave(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def move(path: Path, target: Path) -> None:
    path.rename(target)


def open_to_all(path: Path) -> None:
    path.chmod(0o644)


async def test_joining_stores_the_identity_and_a_key_that_only_its_owner_can_read(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    before = os.umask(0)
    try:
        identity = await enrol(controller, store, key_path)
    finally:
        os.umask(before)

    assert store.identity.load() == identity
    assert identity.device == "cam-1"
    assert identity.root_metadata == b"root"
    assert identity.session_address == "controller.example:7444"
    assert identity.enrolment_address == "controller.example:7443"
    assert identity.server_ca_pem == controller.terms.server_ca_pem
    assert mode(key_path) == 0o600
    assert list(files(key_path.parent)) == ["key.pem"]
    certificate = keys.read_certificate(identity.certificate_pem)
    assert certificate.public_key_pem == keys.public_key(device_key(key_path, identity))


async def test_the_key_is_on_the_disk_before_anything_is_sent(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    seen: list[int] = []

    def dial(address: str, ca_pem: bytes) -> MemoryEnrolment:
        del address, ca_pem
        seen.append(mode(key_path.with_name("key.pem.new")))
        return controller.enrolment

    await join(controller.token(), "cam-1", FACTS, key_path, store, NOW, dial)

    assert seen == [0o600]


@pytest.mark.parametrize("same_token", [True, False])
async def test_a_join_whose_reply_was_lost_is_repeated_as_the_same_device(
    controller: Controller, store: MemoryDeviceStore, key_path: Path, same_token: bool
) -> None:
    token = controller.token()
    controller.enrolment.lose_replies = True
    with pytest.raises(TransportError):
        await join(token, "cam-1", FACTS, key_path, store, NOW, controller.enrolment.dial)
    assert store.identity.load() is None

    controller.enrolment.lose_replies = False
    again = token if same_token else controller.token()
    identity = await join(again, "cam-1", FACTS, key_path, store, NOW, controller.enrolment.dial)

    assert identity.device == "cam-1"
    assert controller.devices() == ["cam-1"]


async def test_power_may_go_after_the_identity_is_stored_and_before_the_key_has_its_name(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    move(key_path, key_path.with_name("key.pem.new"))

    key_pem = device_key(key_path, identity)

    assert files(key_path.parent) == {"key.pem": key_pem}


async def test_a_torn_pending_key_is_replaced(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    leave(key_path.with_name("key.pem.new"), b"-----BEGIN PRIV")
    leave(key_path.with_name("key.pem.new.tmp"), b"left over")

    identity = await enrol(controller, store, key_path)
    assert device_key(key_path, identity)


async def test_an_enrolled_device_is_not_enrolled_again_by_mistake(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    before = files(key_path.parent)

    with pytest.raises(AlreadyEnrolled, match="cam-1"):
        await enrol(controller, store, key_path)
    assert store.identity.load() == identity
    assert files(key_path.parent) == before


async def test_a_revoked_device_is_enrolled_anew_with_another_key(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    first = await enrol(controller, store, key_path)
    first_key = device_key(key_path, first)
    store.installs.save_directive(b"seven", 7)
    controller.revoke(first.device)
    second = await enrol(controller, store, key_path, anew=True)

    assert second.device != first.device
    assert device_key(key_path, second) != first_key
    # The new device's generations begin at 1: what the old one was told must not outrank them.
    assert (store.installs.directive(), store.installs.generation()) == (b"", 0)


async def test_enrolling_anew_ends_a_damaged_trust(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    await enrol(controller, store, key_path)
    store.trust.save(TrustedState(metadata={"timestamp.json": b"torn"}))
    await enrol(controller, store, key_path, anew=True)

    assert store.trust.load() == TrustedState()


async def test_enrolling_anew_that_fails_keeps_the_old_identity(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    dial = controller.enrolment.dial
    with pytest.raises(Refused):
        await join(Controller().token(), "x", FACTS, key_path, store, NOW, dial, anew=True)

    assert store.identity.load() == identity
    assert device_key(key_path, identity)


async def test_an_expired_token_is_refused_before_anything_is_written_or_sent(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    token, late = controller.token(), NOW + timedelta(hours=1)
    with pytest.raises(ExpiredToken):
        await join(token, "", FACTS, key_path, store, late, controller.enrolment.dial)

    assert controller.keys_seen == []
    assert files(key_path.parent) == {}


async def test_what_is_no_token_is_refused_before_anything_is_written(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    with pytest.raises(BadToken):
        await join("nonsense", "", FACTS, key_path, store, NOW, controller.enrolment.dial)

    assert files(key_path.parent) == {}


async def test_a_token_of_another_controller_says_so(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    with pytest.raises(Refused, match="it is for another controller") as caught:
        await join(Controller().token(), "", FACTS, key_path, store, NOW, controller.enrolment.dial)

    assert caught.value.code == "token-unknown"
    assert store.identity.load() is None


async def test_a_used_token_says_so(
    controller: Controller, store: MemoryDeviceStore, key_path: Path, tmp_path: Path
) -> None:
    token, dial = controller.token(), controller.enrolment.dial
    await join(token, "cam-1", FACTS, key_path, store, NOW, dial)

    with pytest.raises(Refused) as caught:
        await join(token, "thief", FACTS, tmp_path / "k", MemoryDeviceStore(), NOW, dial)
    assert caught.value.code == "token-used"


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


def other_certificate(controller: Controller) -> bytes:
    request = check_request(keys.certificate_request(keys.generate_key(), "cam-1"))
    return issue_device(controller.terms.device_authority, request, "cam-1", NOW).certificate_pem


async def test_another_root_of_trust_is_refused(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    def change(reply: enrolment_pb2.JoinReply) -> None:
        reply.root_metadata = b"another root"

    dial = answering(controller, change).dial
    with pytest.raises(WrongController, match="TUF root"):
        await join(controller.token(), "", FACTS, key_path, store, NOW, dial)
    assert store.identity.load() is None


async def test_a_certificate_for_another_key_is_refused(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    def change(reply: enrolment_pb2.JoinReply) -> None:
        reply.certificate_pem = other_certificate(controller)

    dial = answering(controller, change).dial
    with pytest.raises(Untrusted, match="not for this device's key"):
        await join(controller.token(), "cam-1", FACTS, key_path, store, NOW, dial)
    assert store.identity.load() is None


async def test_a_certificate_for_another_name_is_refused(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    def change(reply: enrolment_pb2.JoinReply) -> None:
        reply.device_id = "somebody-else"

    dial = answering(controller, change).dial
    with pytest.raises(Untrusted, match="somebody-else"):
        await join(controller.token(), "cam-1", FACTS, key_path, store, NOW, dial)


async def test_what_is_no_certificate_is_refused_at_a_renewal_and_the_old_one_kept(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)

    def change(reply: enrolment_pb2.JoinReply) -> None:
        reply.certificate_pem = b"nonsense"

    with pytest.raises(Untrusted):
        await renew(key_path, store, NOW, answering(controller, change).dial)
    assert store.identity.load() == identity


async def test_renewing_replaces_the_certificate_only(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    controller.now = NOW + timedelta(days=20)
    renewed = await renew(key_path, store, controller.now, controller.enrolment.dial)

    assert replace(renewed, certificate_pem=identity.certificate_pem) == identity
    assert keys.read_certificate(renewed.certificate_pem).not_after == NOW + timedelta(days=50)
    assert store.identity.load() == renewed


async def test_an_expired_certificate_renews(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    await enrol(controller, store, key_path)
    controller.now = NOW + timedelta(days=100)
    renewed = await renew(key_path, store, controller.now, controller.enrolment.dial)

    assert keys.read_certificate(renewed.certificate_pem).not_after > controller.now


async def test_a_renewal_whose_reply_was_lost_is_repeated(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    await enrol(controller, store, key_path)
    controller.enrolment.lose_replies = True
    with pytest.raises(TransportError):
        await renew(key_path, store, NOW, controller.enrolment.dial)

    controller.enrolment.lose_replies = False
    await renew(key_path, store, NOW, controller.enrolment.dial)


async def test_a_key_that_became_readable_for_others_is_closed_again(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    open_to_all(key_path)
    device_key(key_path, identity)

    assert mode(key_path) == 0o600


async def test_a_missing_key_names_its_file(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    move(key_path, key_path.with_name("elsewhere"))

    with pytest.raises(StoreError, match=r"key\.pem"):
        device_key(key_path, identity)


async def test_a_folder_that_can_not_be_made_names_its_file(
    controller: Controller, store: MemoryDeviceStore, tmp_path: Path
) -> None:
    leave(tmp_path / "file", b"in the way")

    with pytest.raises(StoreError, match=r"key\.pem"):
        await enrol(controller, store, tmp_path / "file" / "key.pem")
    assert controller.keys_seen == []
