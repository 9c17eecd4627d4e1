"""What people ask of rollouts: start, list, show, abort. ``gather`` reads what plans are made from."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.audit import Entry
from controller.errors import Conflict, InvalidInput, NotFound
from controller.fleet.attributes import attributes
from controller.fleet.device import DeviceStatus, SlotState
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.registry.version import Version
from controller.rollout.account import Progress, after_abort
from controller.rollout.compatibility import objections
from controller.rollout.facts import Facts, Place, Release, place, proven, slots_by_place
from controller.rollout.plan import account, account_ended, accounts
from controller.rollout.revert import previous_committed
from controller.rollout.rollout import ASSIGNING, Rollout, SignedDirective, State, Wanted
from controller.store.store import Transaction
from protos.documents import Directive, Report
from protos.envelope import peek
from protos.errors import DocumentError
from protos.manifest import parse_reference, read_manifest

SLOTS = ("champion", "challenger")
REPORTS_READ_BACK = 1000

log = logging.getLogger(__name__)


class Abort(StrEnum):
    """What an abort does with what the rollout has assigned."""

    KEEP = "keep"  # it stays wanted; nothing more is assigned
    REVERT = "revert"  # every place goes back to the version that its device has proven before


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rollout would do: devices by id, and why some can't."""

    devices: tuple[str, ...]
    incompatible: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Aborted:
    """What an abort did, by device.

    Attributes:
        restored: the version that is wanted now.
        withdrawn: nothing is wanted there any more, and nothing was running.
        left: keeps the rollout's version: no earlier one is proven.
    """

    rollout: Rollout
    restored: Mapping[str, int]
    withdrawn: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def start(
    tx: Transaction,
    reference: str,
    selector: str,
    actor: str,
    now: float,
    *,
    slot: str = "champion",
    allow_empty: bool = False,
) -> Rollout:
    """Starts bringing a version (``digits/2`` or ``digits@champion``) to the devices that match.

    Devices that come to match later get it too: while the rollout runs and, if it succeeds, after,
    until it is aborted or a newer one has them. The next plan assigns it: wake the loop.

    Raises:
        InvalidInput, BadSelector: the reference, slot or selector can't be read.
        NotFound: there is no such version.
        Conflict: it is not published; or no device matches, or none that matches can run it, and
            ``allow_empty`` does not say that this is meant.
    """
    if slot not in SLOTS:
        raise InvalidInput(f"slot: {slot!r} is none of {', '.join(SLOTS)}")
    version = _published(tx, reference)
    found = _preview(tx, release_of(version), selector)
    if not found.devices and not allow_empty:
        raise Conflict(_nobody(selector, found))
    rollouts = tx.rollouts.all()
    # Which rollout is newer decides who has a device: a clock that was set back must not.
    newest = max((one.created_at for one in rollouts), default=0.0)
    ordinal = 1 + sum(
        (one.model, one.version) == (version.model, version.version) for one in rollouts
    )
    rollout = Rollout(
        id=f"{version.model}-{version.version}-{ordinal}",
        model=version.model,
        version=version.version,
        selector=str(parse(selector)),
        state=State.RUNNING,
        created_at=max(now, newest + 0.001),
        created_by=actor,
        slot=slot,
    )
    tx.rollouts.put(rollout)
    detail = {"version": f"{version.model}/{version.version}", "to": rollout.selector, "slot": slot}
    tx.audit.append(Entry(actor, "rollout.start", rollout.id, detail), int(now * 1000))
    log.info("rollout.started rollout=%s to=%s by=%s", rollout.id, rollout.selector, actor)
    return rollout


def preview(tx: Transaction, reference: str, selector: str) -> Preview:
    """Whom a rollout would reach now.

    Raises:
        InvalidInput, BadSelector, NotFound, Conflict: as ``start``.
    """
    return _preview(tx, release_of(_published(tx, reference)), selector)


def list_rollouts(tx: Transaction, now: float) -> tuple[Progress, ...]:
    """Every rollout with its accounts, newest first."""
    facts = gather(tx)
    closed = {one.id: tx.rollouts.standings(one.id) for one in facts.rollouts}
    return accounts(facts, closed, now)


def show(tx: Transaction, rollout_id: str, now: float) -> Progress:
    """One rollout with its accounts: who runs it, who does not, and why.

    Raises:
        NotFound: there is none of that id.
    """
    return _account(tx, _get(tx, rollout_id), now)


def abort(
    tx: Transaction, rollout_id: str, actor: str, now: float, how: Abort = Abort.KEEP
) -> Aborted:
    """Ends a rollout that runs, or one that has succeeded and goes on for devices that match later.

    What changes is sent with the next plan: wake the loop.

    Raises:
        NotFound: there is none of that id.
        Conflict: it has ended otherwise.
    """
    rollout = _get(tx, rollout_id)
    if rollout.state not in ASSIGNING:
        raise Conflict(
            f"rollout {rollout_id!r} is {rollout.state}; to change what its devices run, start "
            "a rollout of the version that they shall run"
        )
    done = dataclasses.replace(rollout, state=State.ABORTED, ended_at=now)
    before = _account(tx, rollout, now)
    outcome = Aborted(done, {}) if how is Abort.KEEP else _revert(tx, done, now)
    back = {device: f"{rollout.model}/{version}" for device, version in outcome.restored.items()}
    back |= dict.fromkeys(outcome.withdrawn, "nothing")
    stood = after_abort(before.standings, back)
    close(tx, dataclasses.replace(before, rollout=done, standings=stood))
    detail = {"how": how.value, "restored": str(len(outcome.restored))}
    tx.audit.append(Entry(actor, "rollout.abort", rollout_id, detail), int(now * 1000))
    log.info("rollout.aborted rollout=%s how=%s by=%s", rollout_id, how.value, actor)
    return outcome


def close(tx: Transaction, progress: Progress) -> None:
    """Records an ended rollout with what it has come to."""
    tx.rollouts.put(progress.rollout)
    tx.rollouts.put_standings(progress.rollout.id, progress.standings)


def gather(tx: Transaction) -> Facts:
    """Everything that a plan is made from, as it is in this transaction."""
    facts = Facts(
        rollouts=tuple(tx.rollouts.all()),
        devices=tuple(tx.devices.all()),
        wanted=tuple(tx.rollouts.wanted()),
        slots=tuple(tx.devices.slots()),
        releases={(one.model, one.version): release_of(one) for one in tx.registry.versions()},
    )
    return dataclasses.replace(facts, asked=_asked(tx, facts))


def release_of(version: Version) -> Release:
    """What rollouts need of a registered version."""
    manifest = read_manifest(version.manifest)
    return Release(
        model=version.model,
        version=version.version,
        state=version.state,
        sha256=version.manifest_sha256,
        length=len(version.manifest),
        needs=manifest.needs,
        minimum_agent=manifest.minimum_agent,
    )


def _asked(tx: Transaction, facts: Facts) -> Mapping[Place, int]:
    """``Facts.asked``, for the places where a failure is reported: only there it decides."""
    failed = {place(slot): slot.version for slot in facts.slots if slot.state == "failed"}
    found = {}
    for row in facts.wanted:
        if failed.get(place(row)) == row.version:
            generation = _first_asked(row, tx.rollouts.directives(row.device))
            if generation:
                found[place(row)] = generation
    return found


def _first_asked(row: Wanted, newest_first: Iterable[SignedDirective]) -> int:
    first = 0
    for signed in newest_first:
        directive = peek(signed.envelope, Directive)
        asks = any(
            (one.model, one.slot, one.version, one.rollout)
            == (row.model, row.slot, row.version, row.rollout)
            for one in directive.assignments
        )
        if not asks:
            return first
        first = signed.generation
    # Only the newest are kept: where all of these ask, those before may have asked as well.
    return min(first, 1)


def _published(tx: Transaction, reference: str) -> Version:
    model, number = _resolve(tx, reference)
    version = tx.registry.version(model, number)
    if version is None:
        raise NotFound(f"no version {model}/{number}")
    if not release_of(version).published:
        raise Conflict(
            f"{model}/{number} is {version.state}; only published versions are rolled out"
        )
    return version


def _resolve(tx: Transaction, reference: str) -> tuple[str, int]:
    model, at, alias = reference.partition("@")
    if not at:
        try:
            return parse_reference(reference)
        except DocumentError as error:
            raise InvalidInput(f"version: {error.detail}, nor MODEL@ALIAS") from error
    number = tx.registry.aliases(model).get(alias)
    if number is None:
        raise NotFound(f"no version {reference}")
    return model, number


def _preview(tx: Transaction, release: Release, selector: str) -> Preview:
    chosen = parse(selector)
    meant = [
        device
        for device in tx.devices.all()
        if device.status is DeviceStatus.ACTIVE and matches(chosen, attributes(device))
    ]
    reasons = {device.id: objections(release, device) for device in meant}
    return Preview(
        tuple(sorted(device for device, why in reasons.items() if not why)),
        {device: why for device, why in sorted(reasons.items()) if why},
    )


def _nobody(selector: str, found: Preview) -> str:
    if not found.incompatible:
        return f"selector {selector!r} matches no active device"
    device, why = next(iter(found.incompatible.items()))
    return f"no device that {selector!r} matches can run it; {device}: {'; '.join(why)}"


def _account(tx: Transaction, rollout: Rollout, now: float) -> Progress:
    if rollout.state is State.RUNNING:
        return account(rollout, gather(tx), now)
    return account_ended(rollout, tx.rollouts.standings(rollout.id))


def _get(tx: Transaction, rollout_id: str) -> Rollout:
    rollout = tx.rollouts.get(rollout_id)
    if rollout is None:
        raise NotFound(f"no rollout {rollout_id!r}")
    return rollout


def _revert(tx: Transaction, rollout: Rollout, now: float) -> Aborted:
    facts = gather(tx)
    slots = slots_by_place(facts.slots)
    restored: dict[str, int] = {}
    withdrawn, left = [], []
    for row in facts.wanted:
        if (row.rollout, row.version) != (rollout.id, rollout.version):
            continue
        said = slots.get(place(row), ())
        back = _previous(tx, row, said, facts.releases)
        if back is not None:
            tx.rollouts.put_wanted(dataclasses.replace(row, version=back.version, assigned_at=now))
            restored[row.device] = back.version
        elif any(one.running for one in said):
            left.append(row.device)
        else:
            tx.rollouts.remove_wanted(row.device, row.model, row.slot)
            withdrawn.append(row.device)
    return Aborted(rollout, restored, tuple(withdrawn), tuple(left))


def _previous(
    tx: Transaction,
    row: Wanted,
    said: tuple[SlotState, ...],
    releases: Mapping[tuple[str, int], Release],
) -> Release | None:
    """What the device runs now, if that is another version; else what it ran before."""
    for release in releases.values():
        runs = release.model == row.model and release.published and proven(said, release)
        if runs and release.version != row.version:
            return release
    reports = (
        peek(stored.envelope, Report)
        for stored in tx.telemetry.reports(row.device, REPORTS_READ_BACK)
    )
    return previous_committed(row, reports, releases)
