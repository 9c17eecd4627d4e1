from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from agent.identity import keys
from agent.identity.token import parse
from controller.audit import broken_at
from controller.enrolment.actions import admit, create_token, join, renew, revoke
from controller.enrolment.authority import create_authority, device_names
from controller.enrolment.terms import BrokerTerms, Terms
from controller.errors import (
    BadRequestForCertificate,
    BadSignature,
    CertificateLapsed,
    Conflict,
    CounterReplayed,
    DeviceRevoked,
    DeviceUnknown,
    InvalidInput,
    NotFound,
    TokenExpired,
    TokenUnknown,
    TokenUsed,
)
from controller.federated.task import TaskState
from controller.fleet.device import DeviceStatus
from controller.home import MOST_AUTHORITY_BYTES
from controller.store.store import Store
from protos.documents import Renewal, Report, sha256
from protos.envelope import seal
from protos.v1 import common_pb2, enrolment_pb2
from simulations.memory_store import MemoryStore
from tests.contracts.federated_values import RUN, TASK

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
MOMENT = datetime.fromtimestamp(NOW, UTC)
ROOT = b'{"signed": {"_type": "root"}}'
TERMS = Terms(
    device_authority=create_authority("device CA", MOMENT),
    server_ca_pem=create_authority("server CA", MOMENT).certificate_pem,
    root_metadata=ROOT,
    enrolment_address="controller.example:7443",
    session_address="controller.example:7444",
)


@pytest.fixture
def store() -> Iterator[Store]:
    store = MemoryStore()
    yield store
    store.close()


def invite(store: Store, labels: dict[str, str] | None = None) -> tuple[str, str]:
    """Id and secret of a fresh token."""
    with store.begin() as tx:
        _, text = create_token(tx, TERMS, "ada", NOW, 3600.0, labels)
    ticket = parse(text)
    return ticket.id, ticket.secret


def wish(
    token: tuple[str, str], key_pem: bytes, name: str = "press-7"
) -> enrolment_pb2.JoinRequest:
    return enrolment_pb2.JoinRequest(
        token_id=token[0],
        token_secret=token[1],
        csr_pem=keys.certificate_request(key_pem, name),
        name=name,
        facts=common_pb2.DeviceFacts(arch="aarch64", memory_bytes=2**30),
    )


def ask(
    store: Store, request: enrolment_pb2.JoinRequest, at: float = NOW
) -> enrolment_pb2.JoinReply:
    with store.begin() as tx:
        return join(tx, request, TERMS, at)


def enrolled(store: Store, key_pem: bytes, name: str = "press-7") -> str:
    return ask(store, wish(invite(store), key_pem, name)).device_id


def renewal(key_pem: bytes, device: str, counter: int, csr_pem: bytes = b"") -> bytes:
    document = Renewal(
        device=device,
        counter=counter,
        csr_pem=(csr_pem or keys.certificate_request(key_pem, device)).decode(),
        requested_at=int(NOW),
    )
    return seal(document, keys.signer(key_pem))


def ask_renewal(store: Store, envelope: bytes, at: float = NOW) -> enrolment_pb2.RenewReply:
    request = enrolment_pb2.RenewRequest(renewal=common_pb2.Envelope.FromString(envelope))
    with store.begin() as tx:
        return renew(tx, request, TERMS, at)


def test_a_token_pins_the_ca_and_the_root_and_names_the_way(store: Store) -> None:
    with store.begin() as tx:
        token, text = create_token(tx, TERMS, "ada", NOW, 3600.0, {"site": "berlin"})
    ticket = parse(text)

    assert ticket.server_ca_pem == TERMS.server_ca_pem
    assert ticket.root_sha256 == sha256(ROOT)
    assert ticket.address == "controller.example:7443"
    assert ticket.expires == NOW + 3600
    with store.begin() as tx:
        assert tx.tokens.get(token.id) == token


def test_a_token_names_the_broker_that_machines_may_join_over(store: Store) -> None:
    broker = BrokerTerms("broker:8883", "broker:8885", TERMS.server_ca_pem * 2)
    with store.begin() as tx:
        _, text = create_token(tx, replace(TERMS, broker=broker), "ada", NOW)
        closed = replace(TERMS, broker=replace(broker, enrolment_address=""))
        _, plain = create_token(tx, closed, "ada", NOW)

    assert parse(text).broker == "broker:8885"
    assert parse(text).broker_ca_pem == broker.ca_pem
    assert parse(plain).broker == ""
    assert parse(plain).broker_ca == ()


def test_the_largest_ca_of_a_broker_fits_in_a_token(store: Store) -> None:
    one = load_pem_x509_certificate(TERMS.server_ca_pem)
    count = MOST_AUTHORITY_BYTES // len(one.public_bytes(Encoding.DER))
    broker = BrokerTerms("b" * 250 + ":65535", "c" * 250 + ":65535", TERMS.server_ca_pem * count)
    with store.begin() as tx:
        _, text = create_token(tx, replace(TERMS, broker=broker), "ada", NOW)

    assert parse(text).broker_ca_pem == broker.ca_pem


def test_joining_makes_a_device(store: Store) -> None:
    key_pem = keys.generate_key()
    reply = ask(store, wish(invite(store, {"site": "berlin"}), key_pem, "Press 7"))
    certificate = keys.read_certificate(reply.certificate_pem)

    assert reply.device_id == certificate.device == "press-7"
    assert reply.root_metadata == ROOT
    assert reply.session_address == "controller.example:7444"
    with store.begin() as tx:
        device = tx.devices.get("press-7")
    assert device is not None
    assert device.public_key_pem == keys.public_key(key_pem)
    assert device.certificate_serial == certificate.serial
    assert device.certificate_expires == certificate.not_after.timestamp() == NOW + 30 * DAY
    assert device.labels == {"site": "berlin"}
    assert device.facts["memory_bytes"] == str(2**30)


def test_everything_is_in_the_audit_record_and_no_secret_is(store: Store) -> None:
    token = invite(store)
    key_pem = keys.generate_key()
    device = ask(store, wish(token, key_pem)).device_id
    ask_renewal(store, renewal(key_pem, device, 1))
    with store.begin() as tx:
        revoke(tx, device, "ada", NOW)
        records = tx.audit.records()

    assert [record.entry.action for record in records] == [
        "token.create",
        "device.join",
        "device.renew",
        "device.revoke",
    ]
    assert broken_at(records) is None
    assert token[1] not in repr(records)


def test_1_a_wrong_secret_is_an_unknown_token(store: Store) -> None:
    identity, _ = invite(store)

    with pytest.raises(TokenUnknown):
        ask(store, wish((identity, "guess"), keys.generate_key()))


def test_1_a_token_of_another_controller_is_unknown(store: Store) -> None:
    with pytest.raises(TokenUnknown):
        ask(store, wish(invite(MemoryStore()), keys.generate_key()))


def test_2_a_request_that_is_not_signed_here_leaves_the_token_unused(store: Store) -> None:
    token = invite(store)
    request = wish(token, keys.generate_key())
    request.csr_pem = b"no request"
    with pytest.raises(BadRequestForCertificate):
        ask(store, request)

    assert ask(store, wish(token, keys.generate_key())).device_id == "press-7"


def test_3_a_token_serves_once(store: Store) -> None:
    token = invite(store)
    ask(store, wish(token, keys.generate_key()))

    with pytest.raises(TokenUsed, match="press-7"):
        ask(store, wish(token, keys.generate_key(), "thief"))
    with store.begin() as tx:
        assert [device.id for device in tx.devices.all()] == ["press-7"]


def test_3_a_lost_reply_can_be_asked_for_again_even_after_the_tokens_end(store: Store) -> None:
    token, key_pem = invite(store), keys.generate_key()
    first = ask(store, wish(token, key_pem))
    second = ask(store, wish(token, key_pem), NOW + 2 * DAY)

    assert second.device_id == first.device_id
    assert keys.read_certificate(second.certificate_pem).public_key_pem == keys.public_key(key_pem)
    with store.begin() as tx:
        assert len(tx.devices.all()) == 1
        used = tx.tokens.get(token[0])
    assert used is not None
    assert used.used_at == NOW


def test_3_what_was_said_of_a_device_since_it_joined_stands_when_it_asks_again(
    store: Store,
) -> None:
    token, key_pem = invite(store, {"site": "berlin"}), keys.generate_key()
    device = ask(store, wish(token, key_pem)).device_id
    with store.begin() as tx:
        known = tx.devices.get(device)
        assert known is not None
        moved = replace(known, labels={"site": "paris"}, facts={**known.facts, "arch": "x86_64"})
        tx.devices.put(moved)

    ask(store, wish(token, key_pem), NOW + 60)

    with store.begin() as tx:
        kept = tx.devices.get(device)
    assert kept is not None
    assert (kept.labels, kept.facts) == (moved.labels, moved.facts)
    assert kept.certificate_serial != known.certificate_serial


def test_4_an_expired_token_makes_nothing(store: Store) -> None:
    token = invite(store)
    with pytest.raises(TokenExpired):
        ask(store, wish(token, keys.generate_key()), NOW + 3600)

    with store.begin() as tx:
        assert list(tx.devices.all()) == []
        kept = tx.tokens.get(token[0])
    assert kept is not None
    assert kept.used_by == ""


def test_5_a_revoked_device_does_not_come_back_with_its_key(store: Store) -> None:
    token, key_pem = invite(store), keys.generate_key()
    device = ask(store, wish(token, key_pem)).device_id
    with store.begin() as tx:
        revoke(tx, device, "ada", NOW)

    for again in (token, invite(store)):
        with pytest.raises(DeviceRevoked):
            ask(store, wish(again, key_pem))


def test_5_a_revoked_device_comes_back_with_a_new_key_and_a_new_token(store: Store) -> None:
    device = enrolled(store, keys.generate_key())
    with store.begin() as tx:
        revoke(tx, device, "ada", NOW)
    again = enrolled(store, keys.generate_key())

    assert again != device
    assert again.startswith("press-7-")
    with store.begin() as tx:
        admit(tx, again, "1")


def test_6_if_the_transaction_fails_the_token_is_unused(store: Store) -> None:
    token = invite(store)
    with pytest.raises(ZeroDivisionError), store.begin() as tx:
        _ = join(tx, wish(token, keys.generate_key()), TERMS, NOW).ByteSize() / 0

    assert ask(store, wish(token, keys.generate_key())).device_id == "press-7"


def test_two_devices_that_ask_for_one_name_get_two_ids(store: Store) -> None:
    one, other = enrolled(store, keys.generate_key()), enrolled(store, keys.generate_key())

    assert one == "press-7"
    assert other.startswith("press-7-")


def test_a_device_with_a_new_token_and_its_old_key_stays_the_same_device(store: Store) -> None:
    key_pem = keys.generate_key()

    assert enrolled(store, key_pem) == enrolled(store, key_pem) == "press-7"


def test_a_name_that_is_too_long_is_refused(store: Store) -> None:
    request = wish(invite(store), keys.generate_key())
    request.name = "n" * 256

    with pytest.raises(InvalidInput, match="name"):
        ask(store, request)


def test_a_renewal_gives_the_same_key_a_later_certificate(store: Store) -> None:
    key_pem = keys.generate_key()
    device = enrolled(store, key_pem)
    reply = ask_renewal(store, renewal(key_pem, device, 1), NOW + 20 * DAY)
    certificate = keys.read_certificate(reply.certificate_pem)

    assert certificate.not_after.timestamp() == NOW + 50 * DAY
    assert certificate.public_key_pem == keys.public_key(key_pem)
    with store.begin() as tx:
        kept = tx.devices.get(device)
    assert kept is not None
    assert (kept.counter, kept.certificate_serial) == (1, certificate.serial)


def test_who_joins_or_renews_is_told_where_the_controller_and_its_broker_are(
    store: Store,
) -> None:
    key_pem = keys.generate_key()
    joined = ask(store, wish(invite(store), key_pem))
    assert not joined.HasField("broker")
    terms = replace(TERMS, broker=BrokerTerms("broker:8883", "broker:8885", b"CA"))
    request = enrolment_pb2.RenewRequest(
        renewal=common_pb2.Envelope.FromString(renewal(key_pem, joined.device_id, 1))
    )
    token = invite(store)
    with store.begin() as tx:
        renewed = renew(tx, request, terms, NOW)
        again = join(tx, wish(token, key_pem), terms, NOW)

    told = enrolment_pb2.Rendezvous(
        address="broker:8883", enrolment_address="broker:8885", ca_pem=b"CA"
    )
    assert renewed.broker == again.broker == told
    assert renewed.session_address == "controller.example:7444"
    assert renewed.enrolment_address == "controller.example:7443"


def test_1_nobody_unknown_can_renew(store: Store) -> None:
    with pytest.raises(DeviceUnknown, match="ghost"):
        ask_renewal(store, renewal(keys.generate_key(), "ghost", 1))


def test_1_what_is_no_renewal_is_refused(store: Store) -> None:
    key_pem = keys.generate_key()
    device = enrolled(store, key_pem)
    report = Report(device=device, counter=1, generation=0, reported_at=0)

    for envelope in (b"", seal(report, keys.signer(key_pem))):
        with pytest.raises(InvalidInput, match="renewal"):
            ask_renewal(store, envelope)


def test_2_another_devices_key_can_not_renew(store: Store) -> None:
    device = enrolled(store, keys.generate_key())

    with pytest.raises(BadSignature, match="press-7"):
        ask_renewal(store, renewal(keys.generate_key(), device, 1))


def test_2_an_altered_renewal_is_refused(store: Store) -> None:
    key_pem = keys.generate_key()
    device = enrolled(store, key_pem)
    envelope = renewal(key_pem, device, 1)

    with pytest.raises(BadSignature):
        ask_renewal(store, envelope.replace(b'"counter":1', b'"counter":9'))


def test_3_a_replayed_renewal_is_refused(store: Store) -> None:
    key_pem = keys.generate_key()
    device = enrolled(store, key_pem)
    envelope = renewal(key_pem, device, 5)
    ask_renewal(store, envelope)

    for late in (envelope, renewal(key_pem, device, 4)):
        with pytest.raises(CounterReplayed):
            ask_renewal(store, late)


def test_4_a_revoked_device_can_not_renew(store: Store) -> None:
    key_pem = keys.generate_key()
    device = enrolled(store, key_pem)
    with store.begin() as tx:
        revoke(tx, device, "ada", NOW)

    with pytest.raises(DeviceRevoked):
        ask_renewal(store, renewal(key_pem, device, 1))


def test_5_an_expired_certificate_is_renewed_within_grace_and_not_after(store: Store) -> None:
    key_pem = keys.generate_key()
    device = enrolled(store, key_pem)
    with pytest.raises(CertificateLapsed):
        ask_renewal(store, renewal(key_pem, device, 1), NOW + 120 * DAY)

    reply = ask_renewal(store, renewal(key_pem, device, 2), NOW + 119 * DAY)
    certificate = keys.read_certificate(reply.certificate_pem)
    assert certificate.not_after == MOMENT + timedelta(days=149)


def test_6_a_renewal_for_another_key_is_refused(store: Store) -> None:
    key_pem = keys.generate_key()
    device = enrolled(store, key_pem)
    other = keys.certificate_request(keys.generate_key(), device)

    with pytest.raises(BadRequestForCertificate, match="enrol anew"):
        ask_renewal(store, renewal(key_pem, device, 1, other))


def test_a_device_is_admitted_until_it_is_revoked(store: Store) -> None:
    device = enrolled(store, keys.generate_key())
    with store.begin() as tx:
        assert admit(tx, device, "1").id == device
        assert revoke(tx, device, "ada", NOW).status is DeviceStatus.REVOKED
    with store.begin() as tx, pytest.raises(DeviceRevoked, match=device):
        admit(tx, device, "1")
    with store.begin() as tx, pytest.raises(DeviceUnknown, match="ghost"):
        admit(tx, "ghost", "1")


def test_what_a_revoked_device_has_sent_and_nobody_has_judged_does_not_count(store: Store) -> None:
    device = enrolled(store, keys.generate_key())
    states = (TaskState.POSTED, TaskState.REPLIED, TaskState.ADMITTED)
    tasks = [
        replace(TASK, id=f"{state}", step=at, device=device, state=state)
        for at, state in enumerate(states, 1)
    ]
    others = replace(TASK, id="others", step=9, device="another", state=TaskState.REPLIED)
    with store.begin() as tx:
        tx.runs.put(RUN)
        tx.tasks.add([*tasks, others])
        revoke(tx, device, "ada", NOW)

    with store.read() as tx:
        found = {one.id: (one.state, one.code) for one in tx.tasks.of_run(RUN.id)}
    assert found == {
        "posted": (TaskState.REFUSED, "revoked"),
        "replied": (TaskState.REFUSED, "revoked"),
        "admitted": (TaskState.ADMITTED, ""),
        "others": (TaskState.REPLIED, ""),
    }


def test_revoking_twice_is_as_revoking_once(store: Store) -> None:
    device = enrolled(store, keys.generate_key())
    with store.begin() as tx:
        revoke(tx, device, "ada", NOW)
        before = tx.audit.last()
        revoke(tx, device, "bob", NOW)
        assert tx.audit.last() == before

    with store.begin() as tx, pytest.raises(NotFound, match="ghost"):
        revoke(tx, "ghost", "ada", NOW)


def test_a_device_whose_ids_are_all_taken_is_told_to_ask_for_another(store: Store) -> None:
    key_pem = keys.generate_key()
    device = enrolled(store, key_pem)
    with store.begin() as tx:
        kept = tx.devices.get(device)
        assert kept is not None
    other = keys.generate_key()
    with store.begin() as tx:
        for taken in device_names("press-7", keys.public_key(other)):
            tx.devices.put(replace(kept, id=taken))

    with pytest.raises(Conflict, match="another name"):
        enrolled(store, other)
