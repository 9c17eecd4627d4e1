"""What is sent next: the oldest records, as one request that the controller will read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from agent.store.device_store import SpoolRecord
from protos.limits import KIB, UPLOAD_BYTES, UPLOAD_RECORDS
from protos.v1 import telemetry_pb2

RECORDS: Final = UPLOAD_RECORDS
BYTES: Final = 512 * KIB
"""Of payload in one request: little enough to get through a bad link, and to hold in memory."""

ENVELOPE: Final = 32
"""Bytes that a record's sequence, tags and lengths add to its payload, at most."""
LARGEST: Final = UPLOAD_BYTES - 4 * KIB
"""A record of more bytes fits no request; 4 KiB are for the spool's id and what was dropped."""


@dataclass(frozen=True, slots=True)
class Unsendable:
    """A record that no request can carry."""

    record: SpoolRecord
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A request, and what it is made of.

    Attributes:
        sequences: of the records in the request, ascending.
        through: of the last record that was looked at: what an acknowledged batch lets go.
    """

    request: telemetry_pb2.UploadRequest
    sequences: tuple[int, ...]
    through: int
    unsendable: tuple[Unsendable, ...] = ()


def batch(spool_id: str, records: Sequence[SpoolRecord], dropped: Mapping[str, int]) -> Batch:
    """The request for the oldest of ``records``, within the protocol's limits.

    ``through`` is 0 where there are no records.
    """
    request = telemetry_pb2.UploadRequest(
        spool_id=spool_id,
        dropped=[
            telemetry_pb2.Dropped(kind=kind, count=count) for kind, count in sorted(dropped.items())
        ],
    )
    sequences: list[int] = []
    unsendable: list[Unsendable] = []
    through = size = 0
    for record in records:
        grown = size + len(record.payload) + ENVELOPE
        if sequences and (grown > LARGEST or len(sequences) == RECORDS):
            break
        through = record.sequence
        reason = _add(request, record)
        if reason:
            unsendable.append(Unsendable(record, reason))
        else:
            sequences.append(record.sequence)
            size = grown
    return Batch(request, tuple(sequences), through, tuple(unsendable))


def _add(request: telemetry_pb2.UploadRequest, record: SpoolRecord) -> str:
    """Appends the record, or says why it can't be."""
    if len(record.payload) + ENVELOPE > LARGEST:
        return f"{len(record.payload)} bytes; an upload holds {LARGEST - ENVELOPE} at most"
    try:
        parsed = telemetry_pb2.Record.FromString(record.payload)
    except DecodeError:
        return "its bytes on the disk are no record"
    parsed.sequence = record.sequence
    request.records.append(parsed)
    return ""


def acknowledged(sent: Batch, reply: telemetry_pb2.UploadReply) -> int:
    """What may be forgotten: never more than was sent; 0 if the reply acknowledges nothing new."""
    if not sent.sequences or reply.stored_through >= sent.sequences[-1]:
        return sent.through
    return reply.stored_through if reply.stored_through >= sent.sequences[0] else 0
