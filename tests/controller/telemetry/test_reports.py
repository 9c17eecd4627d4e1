"""Signed reports say what a device runs; what is replayed, or not its own, changes nothing."""

from dataclasses import replace

import msgspec
import pytest

from agent.identity.keys import generate_key
from controller.audit import broken_at
from controller.store.store import Store
from protos.documents import SlotReport
from protos.v1 import common_pb2, telemetry_pb2
from tests.controller.telemetry.uploads import NOW, RUNNING, Stored, event, report, send, stored

OTHER_KEY = generate_key()


def test_a_signed_report_says_what_the_slots_run(store: Store) -> None:
    trying = replace_slot(
        version=4, state="failed", code="hash-mismatch", detail="x" * 5_000, generation=6
    )

    send(store, report(1, counter=5, wanted=(trying,)))

    with store.begin() as tx:
        running, wanted = tx.devices.slots("dev-1")
        device = tx.devices.get("dev-1")
        (kept,) = tx.telemetry.reports("dev-1")
    assert (running.running, running.version, running.model_sha256) == (True, 3, "b" * 64)
    assert (running.counter, running.generation, running.approvals) == (5, 7, 2)
    assert (wanted.running, wanted.version, wanted.code) == (False, 4, "hash-mismatch")
    # It failed before the newest directive came: it is no answer to that.
    assert wanted.generation == 6
    assert len(wanted.detail) == 2_000
    assert device is not None
    assert (device.counter, device.last_seen) == (5, NOW)
    assert kept.envelope == report_envelope(report(1, counter=5, wanted=(trying,)), kept.envelope)


def replace_slot(**changes: object) -> SlotReport:
    return msgspec.structs.replace(RUNNING, **changes)


def report_envelope(record: telemetry_pb2.Record, envelope: bytes) -> bytes:
    """The stored envelope, if it carries the record's payload: ECDSA signatures differ each time."""
    kept = common_pb2.Envelope.FromString(envelope)
    return envelope if kept.payload == record.report.payload else b""


def test_the_newest_of_several_reports_says_what_runs_and_all_are_evidence(store: Store) -> None:
    send(store, report(1, 1), report(2, 2, running=()), report(3, 4, generation=8))

    with store.begin() as tx:
        (slot,) = tx.devices.slots("dev-1")
    assert (slot.counter, slot.generation) == (4, 8)
    assert stored(store).reports == [4, 2, 1]


def test_a_renewal_that_overtook_a_report_does_not_make_it_a_replay(store: Store) -> None:
    with store.begin() as tx:
        device = tx.devices.get("dev-1")
        assert device is not None
        tx.devices.put(replace(device, counter=9))

    send(store, report(1, counter=8))

    assert stored(store).reports == [8]
    with store.begin() as tx:
        device = tx.devices.get("dev-1")
        assert device is not None
        assert device.counter == 9


@pytest.mark.parametrize("again", [5, 4, 1])
def test_a_replayed_report_changes_nothing_and_is_audited(store: Store, again: int) -> None:
    send(store, report(1, counter=5))

    assert send(store, report(2, counter=again, running=())) == 2

    assert stored(store).reports == [5]
    assert stored(store).rejected == {2: "counter-replayed"}
    with store.begin() as tx:
        assert len(tx.devices.slots("dev-1")) == 1
        (audited,) = tx.audit.records()
        assert audited.entry.action == "report.replay"
        assert audited.entry.actor == "device:dev-1"
        assert "counter" in audited.entry.detail["sequence 2"]
        assert broken_at([audited]) is None


def test_a_device_that_replays_all_the_time_is_audited_once_an_hour(store: Store) -> None:
    send(store, report(1, counter=5))

    for minute in range(121):
        send(store, report(2 + minute, counter=5), now=NOW + 60 * minute)

    with store.begin() as tx:
        details = [one.entry.detail for one in tx.audit.records()]
    assert [one["records"] for one in details] == ["1", "1", "1"]
    assert [one.get("not audited before") for one in details] == [None, "59", "59"]


def test_one_kind_of_bad_record_does_not_hide_another_from_the_audit(store: Store) -> None:
    send(store, report(1, counter=5))
    send(store, report(2, counter=5))
    send(store, event(3, "telemetry.rejected"))

    with store.begin() as tx:
        actions = [one.entry.action for one in tx.audit.records()]
    assert actions == ["report.replay", "telemetry.reject"]


def tampered(record: telemetry_pb2.Record) -> telemetry_pb2.Record:
    record.report.payload = record.report.payload.replace(b'"version":3', b'"version":4')
    return record


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("forged", "code"),
    [
        (report(1, 1, key=OTHER_KEY), "bad-signature"),
        (tampered(report(1, 1)), "bad-signature"),
        (report(1, 1, device="dev-2"), "wrong-device"),
        (report(1, 0), "counter-replayed"),
        (report(1, -1), "out-of-range"),
        (report(1, 2**60), "out-of-range"),
        (report(1, 1, generation=2**70), "out-of-range"),
        (report(1, 1, running=(RUNNING, RUNNING)), "malformed"),
        (report(1, 1, running=(RUNNING,) * 65), "too-large"),
        (report(1, 1, running=(replace_slot(model="../x"),)), "malformed"),
        (report(1, 1, running=(replace_slot(slot=""),)), "malformed"),
        (report(1, 1, running=(replace_slot(state="a\x00b"),)), "malformed"),
        (report(1, 1, running=(replace_slot(model_sha256="beef"),)), "malformed"),
        (report(1, 1, running=(replace_slot(version=-1),)), "out-of-range"),
        (report(1, 1, running=(replace_slot(approvals=2**40),)), "out-of-range"),
    ],
)
def test_a_report_that_is_not_the_devices_own_or_can_not_be_is_refused(
    store: Store, forged: telemetry_pb2.Record, code: str
) -> None:
    assert send(store, forged, event(2)) == 2

    assert stored(store) == Stored([], ["install.committed"], 0, [], {1: code})
    with store.begin() as tx:
        assert list(tx.devices.slots()) == []
        (audited,) = tx.audit.records()
        assert audited.entry.detail["records"] == "1"
