"""What an upload adds to the store: pure, and complete for every upload that can be read.

Rules:

1. What can't be read at all, or is too much, is refused whole, before it is looked at.
2. A record at or below what is stored through was stored before: it is passed over.
3. A record that can't be taken never stops the ones behind it: a ``telemetry.rejected`` event
   takes its place.
4. The cursor advances to the last record that was looked at, whatever became of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from controller.errors import InvalidInput, TooLarge
from controller.telemetry.bounds import NUMBER, Unacceptable, plausible_ms, spool_id
from controller.telemetry.event import rejection, stored_event, stored_resources
from controller.telemetry.record import StoredEvent, StoredResources, StoredWindow
from controller.telemetry.report import VerifiedReport, verified_report
from controller.telemetry.window import stored_window
from protos.keys import Key
from protos.limits import UPLOAD_BYTES, UPLOAD_RECORDS
from protos.v1 import telemetry_pb2

KINDS: Final = ("report", "event", "window", "resources")


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows of the device and the spool before the upload.

    Attributes:
        through: everything up to here is stored.
        report_counter: of the newest report.
    """

    device: str
    key: Key
    through: int
    report_counter: int


class Accepted(msgspec.Struct):
    """What is to be stored, together.

    Attributes:
        through: what the reply says.
        rejected: stand among ``events``, too.
        repeated: how many records were stored before.
        misdated: how many had a time that can not be: the device's clock is wrong.
    """

    spool: str
    through: int
    windows: list[StoredWindow] = msgspec.field(default_factory=list)
    events: list[StoredEvent] = msgspec.field(default_factory=list)
    resources: list[StoredResources] = msgspec.field(default_factory=list)
    reports: list[VerifiedReport] = msgspec.field(default_factory=list)
    rejected: list[StoredEvent] = msgspec.field(default_factory=list)
    dropped: Mapping[str, int] = msgspec.field(default_factory=dict)
    repeated: int = 0
    misdated: int = 0


def read(request: bytes) -> telemetry_pb2.UploadRequest:
    """The request in these bytes.

    Raises:
        TooLarge: more bytes or records than one upload may have.
        InvalidInput: it can't be read, or its spool or a sequence can't be.
    """
    if len(request) > UPLOAD_BYTES:
        raise TooLarge(f"an upload of {len(request)} bytes; {UPLOAD_BYTES} at most")
    try:
        parsed = telemetry_pb2.UploadRequest.FromString(request)
    except DecodeError as error:
        raise InvalidInput("not an UploadRequest") from error
    if len(parsed.records) > UPLOAD_RECORDS:
        raise TooLarge(f"records: {len(parsed.records)}; {UPLOAD_RECORDS} at most")
    spool_id(parsed.spool_id)
    for record in parsed.records:
        if not 0 < record.sequence < NUMBER:
            raise InvalidInput(f"sequence: {record.sequence} is not from 1 to {NUMBER - 1}")
    return parsed


def accept(request: telemetry_pb2.UploadRequest, known: Known, now: float) -> Accepted:
    """What to store of a request that ``read`` has returned; ``now`` is Unix seconds."""
    accepted = Accepted(request.spool_id, known.through, dropped=_dropped(request.dropped))
    for record in sorted(request.records, key=_sequence):
        if record.sequence <= accepted.through:
            accepted.repeated += 1
            continue
        accepted.through = record.sequence
        known = _take(record, known, now, accepted)
    return accepted


def _sequence(record: telemetry_pb2.Record) -> int:
    return record.sequence


def _take(record: telemetry_pb2.Record, known: Known, now: float, accepted: Accepted) -> Known:
    now_ms = int(1000 * now)
    accepted.misdated += plausible_ms(record.recorded_ms, now_ms) != record.recorded_ms
    try:
        return _keep(record, known, now, accepted)
    except Unacceptable as why:
        rejected = rejection(known.device, accepted.spool, record, why, now_ms)
        accepted.events.append(rejected)
        accepted.rejected.append(rejected)
        return known


def _keep(record: telemetry_pb2.Record, known: Known, now: float, accepted: Accepted) -> Known:
    device, spool, sequence, now_ms = known.device, accepted.spool, record.sequence, int(1000 * now)
    match record.WhichOneof("kind"):
        case "window":
            window = stored_window(device, spool, sequence, record.window, now_ms)
            accepted.windows.append(window)
        case "event":
            accepted.events.append(stored_event(device, spool, record, now_ms))
        case "resources":
            accepted.resources.append(stored_resources(device, spool, record, now_ms))
        case "report":
            envelope = record.report.SerializeToString()
            report = verified_report(device, known.key, envelope, known.report_counter, now)
            accepted.reports.append(report)
            return replace(known, report_counter=report.stored.counter)
        case _:
            raise Unacceptable("unknown-kind", "neither report, event, window nor resources")
    return known


def _dropped(totals: Sequence[telemetry_pb2.Dropped]) -> dict[str, int]:
    return {one.kind: min(one.count, NUMBER - 1) for one in totals if one.kind in KINDS}
