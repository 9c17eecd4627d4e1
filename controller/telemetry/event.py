"""Events and readings as devices send them, checked."""

import re
from typing import Final

from controller.telemetry.bounds import (
    FIELDS,
    NAME,
    NUMBER,
    READING_BYTES,
    RESERVED,
    VERSION,
    Unacceptable,
    model_name,
    number,
    plausible_ms,
    text,
)
from controller.telemetry.record import StoredEvent, StoredResources
from protos.v1 import telemetry_pb2

SEVERITIES: Final = frozenset({"info", "warning", "error"})
_EVENT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def stored_event(device: str, spool: str, record: telemetry_pb2.Record, now_ms: int) -> StoredEvent:
    """The event as it is stored: long texts are cut, for people alone read them.

    Raises:
        Unacceptable: it can't be one; the message names the field.
    """
    event = record.event
    if not _EVENT.fullmatch(event.name) or event.name == RESERVED:
        raise Unacceptable("malformed", f"name: {event.name[:NAME]!r} is no event's name")
    if event.severity not in SEVERITIES:
        raise Unacceptable("malformed", f"severity: {event.severity[:NAME]!r} is none")
    if len(event.fields) > FIELDS:
        raise Unacceptable("too-large", f"fields: {len(event.fields)}; {FIELDS} at most")
    return StoredEvent(
        device=device,
        spool=spool,
        sequence=record.sequence,
        recorded_ms=plausible_ms(record.recorded_ms, now_ms),
        name=event.name,
        severity=event.severity,
        model=model_name("model", event.model) if event.model else "",
        version=number("version", event.version, VERSION),
        code=text(event.code, NAME),
        detail=text(event.detail),
        fields={text(key, NAME): text(value) for key, value in sorted(event.fields.items())},
    )


def rejection(
    device: str, spool: str, record: telemetry_pb2.Record, why: Unacceptable, now_ms: int
) -> StoredEvent:
    """What stands in the place of a record that can't be taken: people see it, and it is counted."""
    return StoredEvent(
        device=device,
        spool=spool,
        sequence=record.sequence,
        recorded_ms=now_ms,
        name=RESERVED,
        severity="error",
        model="",
        version=0,
        code=why.code,
        detail=text(why.detail),
        fields={"kind": record.WhichOneof("kind") or "unknown"},
    )


def stored_resources(
    device: str, spool: str, record: telemetry_pb2.Record, now_ms: int
) -> StoredResources:
    """The reading as it is stored.

    Raises:
        Unacceptable: it can't be one; the message names the field.
    """
    for told, value in record.resources.ListFields():
        if not 0 <= value < NUMBER:  # nor NaN, which JSON does not know
            raise Unacceptable("out-of-range", f"{told.name}: {value} is not from 0 to {NUMBER}")
    payload = record.resources.SerializeToString()
    if len(payload) > READING_BYTES:
        raise Unacceptable(
            "too-large", f"a reading of {len(payload)} bytes; {READING_BYTES} at most"
        )
    recorded_ms = plausible_ms(record.recorded_ms, now_ms)
    return StoredResources(device, spool, record.sequence, recorded_ms, payload)
