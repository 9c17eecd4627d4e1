"""What people do to a rollout that goes on: pause, resume, approve, retry, abort.

Each is one change of state in one transaction, whatever devices are away: the next plan carries it
out, so wake the loop.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NoReturn

from controller.audit import Entry
from controller.errors import Conflict
from controller.fleet.presence import online_seconds
from controller.rollout.account import at_the_end, tally
from controller.rollout.actions import gather, progress_of, rollout_of
from controller.rollout.explain import named
from controller.rollout.facts import by_device
from controller.rollout.reversal import Reversal, reversal
from controller.rollout.rollout import (
    ASSIGNING,
    CONTROL,
    FINAL,
    OPEN,
    Event,
    IllegalEvent,
    Member,
    Rollout,
    StageEvent,
    StageRecord,
    StageState,
    State,
    stage_step,
    step,
)
from controller.rollout.standing import Outcome, Standing
from controller.rollout.verdict import accepted_of
from controller.store.store import Transaction

log = logging.getLogger(__name__)

_STOPPED = frozenset({StageState.BREACHED, StageState.REVERTED})
_LOST = frozenset({Outcome.FAILED, Outcome.UNREACHABLE})


class Abort(StrEnum):
    """What an abort does with what the rollout has assigned."""

    KEEP = "keep"  # it stays wanted; nothing more is assigned
    REVERT = "revert"  # every device goes back to the version that it ran before


@dataclass(frozen=True, slots=True)
class Aborted:
    """What an abort did, by device.

    Attributes:
        restored: the version that is wanted now.
        withdrawn: nothing is wanted there any more, and nothing was running.
        left: keeps the rollout's version: no earlier one is known.
    """

    rollout: Rollout
    restored: Mapping[str, int]
    withdrawn: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def pause(tx: Transaction, rollout_id: str, actor: str, now: float, reason: str = "") -> Rollout:
    """Releases nobody any more; what was released goes on and is counted.

    Raises:
        NotFound: there is none of that id.
        Conflict: it has ended.
    """
    rollout = rollout_of(tx, rollout_id)
    said = reason or rollout.reason if rollout.state is State.PAUSED else reason
    after = _moved(rollout, Event.PAUSE, said or f"by {actor}")
    tx.rollouts.put(after)
    _note(tx, actor, "rollout.pause", after, now, {"reason": after.reason})
    return after


def resume(tx: Transaction, rollout_id: str, actor: str, now: float) -> Rollout:
    """Goes on. Who has failed so far, and gates that were breached, are accepted: only more counts.

    A stage that was put back is tried again on the same devices, at its pace.

    Raises:
        NotFound: there is none of that id.
        Conflict: it is not paused.
    """
    rollout = rollout_of(tx, rollout_id)
    after = _moved(rollout, Event.RESUME, "")
    progress = progress_of(tx, rollout, now)
    accepted = []
    for record in tx.stages.all(rollout_id):
        stood = tally(one for one in progress.standings if one.stage == record.number)
        if record.state in _STOPPED:
            accepted.append(_accepted(record, stood.failed, stood.unreachable))
    tx.stages.put(accepted)
    tx.rollouts.put(after)
    _note(tx, actor, "rollout.resume", after, now, {"accepted": _words(accepted)})
    return after


def approve(tx: Transaction, rollout_id: str, actor: str, now: float) -> StageRecord:
    """Lets the stage begin that waits for approval; returns it.

    Raises:
        NotFound: there is no such rollout.
        Conflict: no stage of it waits for approval.
    """
    rollout = rollout_of(tx, rollout_id)
    stages = rollout.policy.stages
    for record in tx.stages.all(rollout_id):
        asked = record.number < len(stages) and stages[record.number].approval
        if rollout.state in OPEN and record.state is StageState.HELD and asked:
            if record.approved_by:
                break
            approved = replace(record, approved_by=actor)
            tx.stages.put([approved])
            detail = {"stage": stages[record.number].name}
            _note(tx, actor, "rollout.approve", rollout, now, detail)
            return approved
    raise Conflict(f"rollout {rollout_id!r}: no stage of it waits for approval")


def retry(
    tx: Transaction, rollout_id: str, actor: str, now: float, devices: Iterable[str] = ()
) -> tuple[str, ...]:
    """Asks devices again that have failed or are unreachable, all or these; returns whom.

    A device that keeps the version out since it failed there tries it again. A rollout that was
    paused by a breach goes on: who is not asked again is accepted, and a stage that was put back is
    tried again as a whole.

    Raises:
        NotFound: there is no such rollout.
        Conflict: it has ended, or there is nobody to ask again.
    """
    rollout = rollout_of(tx, rollout_id)
    if rollout.state not in OPEN:
        _refuse(rollout, "retry")
    progress, chosen = progress_of(tx, rollout, now), set(devices)
    stages, members = tx.stages.all(rollout_id), tx.stages.members(rollout_id)
    stopped = {one.number for one in stages if one.state in _STOPPED}
    put_back = {one.device for one in members if one.reverted and one.stage in stopped}
    lost = {one.device for one in progress.standings if one.outcome in _LOST}
    asked = (lost | put_back) & chosen if chosen else lost | put_back
    if not asked:
        raise Conflict(
            f"rollout {rollout_id!r}: none of its devices has failed or is unreachable"
            if not chosen
            else f"rollout {rollout_id!r}: {named(chosen)} neither failed nor is unreachable in it"
        )
    _ask_again(tx, [one for one in members if one.device in asked & lost], now)
    left = [one for one in progress.standings if one.device not in asked]
    tx.stages.put([_retried(one, left) for one in stages])
    if stopped:
        rollout = _moved(rollout, Event.RESUME, "")
        tx.rollouts.put(rollout)
    _note(tx, actor, "rollout.retry", rollout, now, {"devices": str(len(asked))})
    return tuple(sorted(asked | put_back))


def abort(
    tx: Transaction, rollout_id: str, actor: str, now: float, how: Abort = Abort.KEEP
) -> Aborted:
    """Ends a rollout that goes on, or one that has succeeded and serves devices that match later.

    Raises:
        NotFound: there is none of that id.
        Conflict: it has ended otherwise.
    """
    rollout = rollout_of(tx, rollout_id)
    event = Event.KEEP if how is Abort.KEEP else Event.REVERT
    before = progress_of(tx, rollout, now)
    after = _moved(rollout, event, f"by {actor}")
    found = _revert(tx, rollout) if how is Abort.REVERT else Reversal()
    if after.state is State.ROLLING_BACK and not (found.restore or found.remove):
        after = _moved(after, Event.BACK, after.reason)  # nobody has anything to go back from
    if after.state in FINAL:
        after = replace(after, ended_at=now)
    end(tx, after, before.standings, found)
    detail = {"how": how.value, "restored": str(len(found.restore))}
    _note(tx, actor, "rollout.abort", after, now, detail)
    return Aborted(
        after,
        {row.device: row.version for row in found.restore},
        tuple(row.device for row in found.remove),
        found.left,
    )


def end(tx: Transaction, rollout: Rollout, standings: Iterable[Standing], found: Reversal) -> None:
    """Records a rollout that ends or goes back, with what it has come to."""
    back = {row.device: f"{row.model}/{row.version}" for row in found.restore}
    back |= {row.device: "nothing" for row in found.remove}
    stood = tuple(standings)
    tx.rollouts.put(rollout)
    tx.rollouts.put_standings(
        rollout.id, stood if rollout.state in ASSIGNING else at_the_end(stood, back)
    )
    if rollout.state in FINAL and rollout.state is not State.SUCCEEDED:
        tx.stages.remove_members(rollout.id)


def _revert(tx: Transaction, rollout: Rollout) -> Reversal:
    facts = gather(tx)
    known = by_device(facts)
    members = [one for one in facts.members if one.rollout == rollout.id and one.stage != CONTROL]
    found = reversal(
        rollout,
        members,
        lambda where: known[where[0]].row(where[1], where[2]),
        lambda where: known[where[0]].said(where[1], where[2]),
        facts.releases,
    )
    for row in found.restore:
        tx.rollouts.put_wanted(row)
    for row in found.remove:
        tx.rollouts.remove_wanted(row.device, row.model, row.slot)
    tx.stages.put_members(found.members)
    return found


def _ask_again(tx: Transaction, members: Iterable[Member], now: float) -> None:
    asked = []
    for member in members:
        device = tx.devices.get(member.device)
        online = 0.0 if device is None else online_seconds(device, now)
        asked.append(
            replace(
                member,
                released_at=now,
                online_at=online,
                proven_at=0.0,
                attempt=member.attempt + 1,
                deferred_at=None,
            )
        )
    tx.stages.put_members(asked)


def _retried(record: StageRecord, left: Iterable[Standing]) -> StageRecord:
    """The stage once devices are asked again; ``left`` are the others."""
    stood = tally(one for one in left if one.stage == record.number)
    if record.state in _STOPPED:
        return _accepted(record, stood.failed, stood.unreachable)
    failed, unreachable = accepted_of(record, stood)
    return replace(record, accepted_failed=failed, accepted_unreachable=unreachable)


def _accepted(record: StageRecord, failed: int, unreachable: int) -> StageRecord:
    return replace(
        record,
        state=stage_step(record.state, StageEvent.RESUME),
        accepted_failed=failed,
        accepted_unreachable=unreachable,
        accepted_gates=tuple(sorted({*record.accepted_gates, *record.broken_gates})),
        broken_gates=(),
        reason="",
    )


def _moved(rollout: Rollout, event: Event, reason: str) -> Rollout:
    try:
        return replace(rollout, state=step(rollout.state, event), reason=reason)
    except IllegalEvent:
        _refuse(rollout, event.value)


def _refuse(rollout: Rollout, verb: str) -> NoReturn:
    said = f"rollout {rollout.id!r} is {rollout.state.value}: {verb} is not possible"
    raise Conflict(f"{said}{_REMEDIES.get(rollout.state, _OTHERWISE)}")


_REMEDIES = {
    State.RUNNING: "",
    State.PAUSED: "",
    State.ROLLING_BACK: "; wait until its devices are back, or abort it so that they keep what they "
    "have",
}
_OTHERWISE = "; to change what its devices run, start a rollout of the version that they shall run"


def _words(records: Iterable[StageRecord]) -> str:
    return "; ".join(
        f"stage {one.number}: {one.accepted_failed} failed, {one.accepted_unreachable} unreachable"
        for one in records
    )


def _note(
    tx: Transaction,
    actor: str,
    action: str,
    rollout: Rollout,
    now: float,
    detail: Mapping[str, str],
) -> None:
    tx.audit.append(Entry(actor, action, rollout.id, dict(detail)), int(now * 1000))
    log.info("%s rollout=%s state=%s by=%s", action, rollout.id, rollout.state.value, actor)
