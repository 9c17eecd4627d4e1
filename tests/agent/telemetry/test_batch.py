"""What goes into one request, and what a reply lets go."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.store.device_store import SpoolRecord
from agent.telemetry.batch import LARGEST, Batch, acknowledged, batch
from agent.telemetry.record import event_record
from controller.telemetry.accept import read
from protos.limits import UPLOAD_BYTES, UPLOAD_RECORDS
from protos.v1 import telemetry_pb2


def event(sequence: int, size: int = 0) -> SpoolRecord:
    return SpoolRecord(
        sequence, "event", 5, event_record("x", "info", 5, fields={"a": "b" * min(size, 2_000)})
    )


def large(sequence: int, size: int) -> SpoolRecord:
    window = telemetry_pb2.Window(window_id="w" * size)
    payload = telemetry_pb2.Record(recorded_ms=5, window=window).SerializeToString()
    return SpoolRecord(sequence, "window", 5, payload)


def test_records_are_sent_with_their_sequence_and_what_was_dropped() -> None:
    made = batch("spool", [event(3), event(7)], {"window": 4, "resources": 1})

    assert made.request.spool_id == "spool"
    assert [record.sequence for record in made.request.records] == [3, 7]
    assert [record.recorded_ms for record in made.request.records] == [5, 5]
    assert made.request.records[0].event.name == "x"
    assert [(one.kind, one.count) for one in made.request.dropped] == [
        ("resources", 1),
        ("window", 4),
    ]
    assert (made.sequences, made.through, made.unsendable) == ((3, 7), 7, ())


def test_an_empty_spool_gives_nothing_to_send() -> None:
    made = batch("spool", [], {})

    assert (made.sequences, made.through) == ((), 0)


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(0, UPLOAD_BYTES), max_size=8))
def test_every_request_is_one_that_the_controller_reads(sizes: list[int]) -> None:
    records = [large(sequence, size) for sequence, size in enumerate(sizes, start=1)]
    told: list[int] = []
    while records:
        made = batch("s" * 32, records, {"window": 2**53, "event": 1, "report": 1, "resources": 1})
        read(made.request.SerializeToString())
        told += [*made.sequences, *(one.record.sequence for one in made.unsendable)]
        assert made.through >= records[0].sequence
        records = [one for one in records if one.sequence > made.through]

    assert sorted(told) == list(range(1, len(sizes) + 1))


def test_no_request_has_more_records_than_allowed() -> None:
    made = batch("spool", [event(one) for one in range(1, UPLOAD_RECORDS + 10)], {})

    assert len(made.sequences) == UPLOAD_RECORDS
    assert made.through == UPLOAD_RECORDS


def test_what_no_request_can_carry_is_set_aside_with_its_reason() -> None:
    huge = large(1, LARGEST)
    torn = SpoolRecord(3, "window", 5, b"\xff\xff\xff")

    made = batch("spool", [huge, event(2), torn, event(4)], {})

    assert made.sequences == (2, 4)
    assert made.through == 4
    assert [one.record.sequence for one in made.unsendable] == [1, 3]
    assert "bytes" in made.unsendable[0].reason
    assert "no record" in made.unsendable[1].reason


@pytest.mark.parametrize(
    ("stored_through", "forgotten"),
    [(0, 0), (4, 0), (5, 5), (6, 6), (9, 10), (10, 10), (2**60, 10)],
)
def test_a_reply_lets_go_what_it_acknowledges_and_never_more_than_was_sent(
    stored_through: int, forgotten: int
) -> None:
    sent = Batch(telemetry_pb2.UploadRequest(), (5, 6, 9), through=10)

    reply = telemetry_pb2.UploadReply(stored_through=stored_through)

    assert acknowledged(sent, reply) == forgotten
