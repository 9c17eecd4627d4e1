"""Uploads, stored: each record exactly once, whatever is repeated, reordered or cut short."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from agent.errors import MalformedDocument
from agent.identity.keys import verifier
from controller.audit import Entry
from controller.errors import DeviceRevoked, DeviceUnknown, StoreError
from controller.fleet.device import Device, DeviceStatus
from controller.fleet.presence import seen
from controller.monitor.total import total_after
from controller.store.store import Store, Transaction
from controller.telemetry.accept import Accepted, Known, accept, read
from controller.telemetry.record import Rejections, StoredEvent, StoredWindow
from controller.telemetry.report import REPLAYED
from protos.keys import Key
from protos.v1 import telemetry_pb2

AUDIT_EVERY_MS: Final = 3_600_000
"""The chain grows for ever: a device that sends bad records all the time must not fill it."""
_AUDITED_REASONS: Final = 8

log = logging.getLogger(__name__)


def upload(
    store: Store,
    device: str,
    request: bytes,
    now: float,
    on_report: Callable[[], None] = lambda: None,
    linked: Callable[[], bool] = lambda: False,
) -> bytes:
    """Stores what the device sent; returns the serialised ``UploadReply``.

    Records, the slots that reports tell of, and the cursor become durable in one transaction.
    ``now`` is Unix seconds. ``on_report`` is called afterwards if a signed report was among them: no
    other record changes what the device is known to run. ``linked`` tells whether the device's link
    is to this controller: one that it left may have noted since that it has gone. Blocks: async code
    calls it on a thread.

    Raises:
        TooLarge, InvalidInput: the request as a whole can't be; nothing is stored.
        DeviceUnknown, DeviceRevoked: nobody is to be listened to by this name.
        StoreError: the database can't be written; nothing is stored.
    """
    incoming = read(request)
    with store.begin() as tx:
        known = _admitted(tx, device)
        if not known.connected and linked():
            known = replace(known, connected=True)
        newest = tx.telemetry.reports(device, limit=1)
        accepted = accept(
            incoming,
            Known(
                device=device,
                key=_key(known),
                through=tx.telemetry.stored_through(device, incoming.spool_id),
                report_counter=newest[0].counter if newest else 0,
            ),
            now,
        )
        store_accepted(tx, known, accepted, now)
    _tell(device, accepted)
    if accepted.reports:
        on_report()
    return telemetry_pb2.UploadReply(stored_through=accepted.through).SerializeToString()


def _admitted(tx: Transaction, device: str) -> Device:
    known = tx.devices.get(device)
    if known is None:
        raise DeviceUnknown(f"no device {device!r} is enrolled here")
    if known.status is DeviceStatus.REVOKED:
        raise DeviceRevoked(f"device {device!r} was revoked")
    return known


def _key(device: Device) -> Key:
    try:
        return verifier(device.public_key_pem)
    except MalformedDocument as error:
        raise StoreError(f"the public key of device {device.id!r}: {error}") from error


def store_accepted(tx: Transaction, device: Device, accepted: Accepted, now: float) -> None:
    """Stores what was accepted of a device; whatever was refused is audited."""
    if accepted.windows:
        _total(tx, device.id, tx.telemetry.add_windows(accepted.windows))
    if accepted.events:
        tx.telemetry.add_events(accepted.events)
    if accepted.resources:
        tx.telemetry.add_resources(accepted.resources)
    for report in accepted.reports:
        tx.telemetry.add_report(report.stored)
    if accepted.reports:
        newest = accepted.reports[-1]
        tx.devices.replace_slots(device.id, newest.slots)
        counter = newest.stored.counter
        tx.devices.put(seen(device, now, connected=device.connected, counter=counter))
    else:
        tx.devices.touch(device.id, now, connected=device.connected)
    tx.telemetry.advance(device.id, accepted.spool, accepted.through, accepted.dropped)
    if accepted.rejected:
        _audit(tx, device.id, accepted, now)


def _total(tx: Transaction, device: str, windows: Sequence[StoredWindow]) -> None:
    """Adds up what windows that are new say, for gates."""
    by_version: dict[tuple[str, int], list[StoredWindow]] = {}
    for window in windows:
        by_version.setdefault((window.model, window.version), []).append(window)
    for (model, version), some in by_version.items():
        last = tx.totals.last(device, model, version)
        tx.totals.add(total_after(last, some, tx.totals.estimator(model, version)))


def _audit(tx: Transaction, device: str, accepted: Accepted, now: float) -> None:
    replayed = [one for one in accepted.rejected if one.code == REPLAYED]
    others = [one for one in accepted.rejected if one.code != REPLAYED]
    for action, rejected in (("report.replay", replayed), ("telemetry.reject", others)):
        if rejected:
            _audit_rejected(tx, Rejections(device, action, int(1000 * now)), accepted, rejected)


def _audit_rejected(
    tx: Transaction, told: Rejections, accepted: Accepted, rejected: Sequence[StoredEvent]
) -> None:
    """One record of the chain at most in a while; the next one says how many it leaves out."""
    before = tx.audit.rejections(told.device, told.action)
    untold = 0 if before is None else before.untold
    if before is not None and 0 <= told.audited_ms - before.audited_ms < AUDIT_EVERY_MS:
        tx.audit.put_rejections(replace(before, untold=untold + len(rejected)))
        return
    tx.audit.put_rejections(told)
    reasons = {
        f"sequence {one.sequence}": f"{one.code}: {one.detail}"
        for one in rejected[:_AUDITED_REASONS]
    }
    detail = {"spool": accepted.spool, "records": str(len(rejected)), **reasons}
    if untold:
        detail["not audited before"] = str(untold)
    actor = f"device:{told.device}"
    tx.audit.append(Entry(actor, told.action, told.device, detail), told.audited_ms)


def _tell(device: str, accepted: Accepted) -> None:
    log.debug(
        "telemetry.stored device=%s through=%d windows=%d events=%d reports=%d repeated=%d",
        device,
        accepted.through,
        len(accepted.windows),
        len(accepted.events),
        len(accepted.reports),
        accepted.repeated,
    )
    for one in accepted.rejected:
        log.warning(
            "telemetry.rejected device=%s sequence=%d code=%s", device, one.sequence, one.code
        )
    if accepted.misdated:
        log.warning("telemetry.clock-skew device=%s records=%d", device, accepted.misdated)
