"""Signed reports, verified: what a device does run, in its own name."""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from controller.fleet.device import SlotState
from controller.telemetry.bounds import (
    SLOTS,
    VERSION,
    Unacceptable,
    digest,
    model_name,
    name,
    number,
    plausible_ms,
    text,
)
from controller.telemetry.record import StoredReport
from protos.documents import MAX_SOAK_SECONDS, Report, SlotReport
from protos.envelope import unseal
from protos.errors import DocumentError
from protos.keys import Key

REPLAYED = "counter-replayed"


class VerifiedReport(msgspec.Struct, frozen=True):
    """A report that bears the device's signature, and the slots that it tells of."""

    stored: StoredReport
    slots: tuple[SlotState, ...]


def verified_report(
    device: str, key: Key, envelope: bytes, last: int, now: float
) -> VerifiedReport:
    """The report in ``envelope``; ``last`` is the counter of the report before it.

    Raises:
        Unacceptable: not signed by this device, for another one, seen before (``REPLAYED``), or
            out of bounds.
    """
    try:
        report = unseal(envelope, Report, [key])
    except DocumentError as error:
        raise Unacceptable(error.code, error.detail) from error
    return checked_report(device, report, envelope, last, now)


def checked_report(
    device: str, report: Report, envelope: bytes, last: int, now: float
) -> VerifiedReport:
    """The report that stands in ``envelope``, whose signature was verified.

    Raises:
        Unacceptable: as ``verified_report``, but for the signature.
    """
    if report.device != device:
        raise Unacceptable("wrong-device", f"device: a report of {text(report.device, 64)!r}")
    counter = number("counter", report.counter)
    if counter <= last:
        raise Unacceptable(REPLAYED, f"counter: {counter}, where {last} was seen before")
    number("generation", report.generation)
    stored = StoredReport(
        device=device,
        counter=counter,
        generation=report.generation,
        reported_at=plausible_ms(1000 * report.reported_at, int(1000 * now)) // 1000,
        received_at=now,
        envelope=envelope,
    )
    return VerifiedReport(stored, _slots(report, stored.reported_at))


def _slots(report: Report, reported_at: int) -> tuple[SlotState, ...]:
    said = [(slot, True) for slot in report.running] + [(slot, False) for slot in report.wanted]
    if len(said) > SLOTS:
        raise Unacceptable("too-large", f"running and wanted: {len(said)} slots; {SLOTS} at most")
    slots = tuple(_slot(report, slot, reported_at, running=running) for slot, running in said)
    _check_once(slots)
    return slots


@lru_cache(maxsize=4096)
def _check_names(
    model: str, slot: str, state: str, manifest_sha256: str, model_sha256: str
) -> None:
    """Returns if they can be; remembers that, for a fleet says the same of itself over and over."""
    model_name("model", model)
    name("slot", slot)
    name("state", state)
    _digest_or_none("manifest_sha256", manifest_sha256)
    _digest_or_none("model_sha256", model_sha256)


def _slot(report: Report, slot: SlotReport, reported_at: int, *, running: bool) -> SlotState:
    _check_names(slot.model, slot.slot, slot.state, slot.manifest_sha256, slot.model_sha256)
    return SlotState(
        device=report.device,
        model=slot.model,
        slot=slot.slot,
        version=number("version", slot.version, VERSION),
        running=running,
        state=slot.state,
        manifest_sha256=slot.manifest_sha256,
        model_sha256=slot.model_sha256,
        approvals=number("approvals", slot.approvals, VERSION),
        generation=number("generation", slot.generation) or report.generation,
        counter=report.counter,
        reported_at=float(reported_at),
        code=text(slot.code, 64),
        detail=text(slot.detail),
        soaked=number("soaked", slot.soaked, MAX_SOAK_SECONDS + 1),
    )


def _digest_or_none(field: str, value: str) -> None:
    if value:
        digest(field, value)


def _check_once(slots: Sequence[SlotState]) -> None:
    seen: set[tuple[str, str, bool]] = set()
    for slot in slots:
        key = (slot.model, slot.slot, slot.running)
        if key in seen:
            raise Unacceptable("malformed", f"slot {slot.model}/{slot.slot} is there twice")
        seen.add(key)
