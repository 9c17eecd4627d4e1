"""What devices upload, taken as ``controller.telemetry`` takes it, but for signatures."""

from collections.abc import Sequence
from typing import Final

from controller.fleet.device import DeviceStatus
from controller.store.store import Transaction
from controller.telemetry.accept import Accepted
from controller.telemetry.actions import store_accepted
from controller.telemetry.bounds import Unacceptable
from controller.telemetry.record import StoredEvent
from controller.telemetry.report import checked_report
from simulations.fleet.ground import Packet

SPOOL: Final = "spool"
REPORTS_KEPT: Final = 1
UNKEPT: Final = b""
"""In place of a report's envelope: nobody has signed it, so nobody asks for it as evidence."""


def take(tx: Transaction, device: str, packets: Sequence[Packet], now: float) -> Accepted:
    """Stores what is new; the sequence that it says needs not be sent again."""
    known = tx.devices.get(device)
    if known is None or known.status is DeviceStatus.REVOKED:
        return Accepted(SPOOL, packets[-1].sequence)  # nobody listens to it any more
    newest = tx.telemetry.reports(device, limit=1)
    last = newest[0].counter if newest else 0
    accepted = Accepted(SPOOL, tx.telemetry.stored_through(device, SPOOL))
    for packet in packets:
        last = _take(device, packet, last, accepted, now)
    store_accepted(tx, known, accepted, now)
    tx.retention.trim_reports(device, REPORTS_KEPT, 1000)
    return accepted


def _take(device: str, packet: Packet, last: int, accepted: Accepted, now: float) -> int:
    """Takes a record by the rules of ``controller.telemetry.accept``; returns the last counter."""
    if packet.sequence <= accepted.through:
        accepted.repeated += 1
        return last
    accepted.through = packet.sequence
    try:
        report = checked_report(device, packet.report, UNKEPT, last, now)
    except Unacceptable as why:
        accepted.rejected.append(_rejected(device, packet, why, now))
        return last
    accepted.reports.append(report)
    return report.stored.counter


def _rejected(device: str, packet: Packet, why: Unacceptable, now: float) -> StoredEvent:
    return StoredEvent(
        device=device,
        spool=SPOOL,
        sequence=packet.sequence,
        recorded_ms=int(1000 * now),
        name="telemetry.rejected",
        severity="error",
        model="",
        version=0,
        code=why.code,
        detail=why.detail,
    )
