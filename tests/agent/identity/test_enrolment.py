"""A machine joins with a token, once, and keeps what it needs whatever happens meanwhile."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import (
    AlreadyEnrolled,
    BadToken,
    ExpiredToken,
    NobodyAnswered,
    Refused,
    StoreError,
    Untrusted,
    WrongController,
)
from agent.identity import keys
from agent.identity.actions import device_key, join
from agent.store.device_store import TrustedState
from agent.transport.link import Contact, Way
from controller.enrolment.authority import check_request, issue_device
from protos.v1 import enrolment_pb2
from simulations.memory_device_store import MemoryDeviceStore
from tests.agent.identity.enrolment import (
    FACTS,
    NOW,
    Controller,
    answering,
    enrol,
    leave,
    mode,
    move,
)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


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

    def dial(contact: Contact) -> tuple[Way, ...]:
        seen.append(mode(key_path.with_name("key.pem.new")))
        return controller.enrolment.dial(contact)

    await join(controller.token(), "cam-1", FACTS, key_path, store, NOW, dial)

    assert seen == [0o600]


@pytest.mark.parametrize("same_token", [True, False])
async def test_a_join_whose_reply_was_lost_is_repeated_as_the_same_device(
    controller: Controller, store: MemoryDeviceStore, key_path: Path, same_token: bool
) -> None:
    token = controller.token()
    controller.enrolment.lose_replies = True
    with pytest.raises(NobodyAnswered) as caught:
        await join(token, "cam-1", FACTS, key_path, store, NOW, controller.enrolment.dial)
    assert "the token serves still" in caught.value.remedy
    assert store.identity.load() is None

    controller.enrolment.lose_replies = False
    again = token if same_token else controller.token()
    dial = controller.enrolment.dial
    identity, way = await join(again, "cam-1", FACTS, key_path, store, NOW, dial)

    assert (identity.device, way.transport) == ("cam-1", "memory")
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


async def test_a_folder_that_can_not_be_made_names_its_file(
    controller: Controller, store: MemoryDeviceStore, tmp_path: Path
) -> None:
    leave(tmp_path / "file", b"in the way")

    with pytest.raises(StoreError, match=r"key\.pem"):
        await enrol(controller, store, tmp_path / "file" / "key.pem")
    assert controller.keys_seen == []
