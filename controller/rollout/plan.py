"""What to want of which device, and why: facts and the time in, a plan out.

Rules:

1. ``claims.py`` says which rollout a place belongs to, ``staging.py`` whom an open rollout releases.
2. Only published versions are assigned, only to active devices that can run them.
3. A device that matches no longer: what it has proven to run stays until an open rollout wants the
   place; an install that is under way is withdrawn, and the place goes back to the version that the
   device has proven to run.
4. A rollout succeeds when every stage has passed, and then is a standing order for devices that come
   to match later. It ends when newer ones have taken all its devices, or when its version is no longer
   published.
5. A rollout that goes back ends when its devices have proven that they are; nobody waits for those
   that are away.
6. Who was a member of a rollout that has succeeded is forgotten once nothing is wanted anywhere by
   that rollout: nobody can be put back from it, and who comes to match it later is released anew.
7. Planning again after a plan was recorded changes nothing.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from controller.fleet.device import DeviceStatus
from controller.fleet.presence import Presence, presence
from controller.rollout.draft import Draft, EvidenceWish, Plan
from controller.rollout.explain import back, later, named
from controller.rollout.facts import Facts, Place, age, records_by_rollout, runs
from controller.rollout.gate.evidence import Evidence
from controller.rollout.ledger import Ledger
from controller.rollout.part import Shown
from controller.rollout.progress import Progress, accounts_of
from controller.rollout.reversal import is_back
from controller.rollout.rollout import (
    CONTROL,
    OPEN,
    Event,
    Member,
    Rollout,
    State,
    Wanted,
    step,
)
from controller.rollout.roster import Roster
from controller.rollout.staging import Step, View, take_step
from controller.rollout.standing import Standing

COMPARED: Final = 1000
"""So many devices on each side tell what more could: reading them takes a tenth of a second."""


def plan(facts: Facts, now: float) -> Plan:
    """What to want of whom at ``now`` (Unix seconds), with reasons."""
    return plan_by(Ledger.of(facts), facts.evidence, now)


def plan_by(ledger: Ledger, evidence: Mapping[str, Evidence], now: float) -> Plan:
    """The same, of what the ledger was told; ``evidence`` as in ``Facts``.

    What is said of the whole fleet is valid until the ledger looks again.
    """
    ledger.look(now)
    draft, progress = Draft(ledger, evidence, now), []
    by_age = sorted(ledger.known.rollouts.values(), key=age)
    for rollout in by_age:
        if rollout.state in OPEN:
            progress.append(_open(draft, ledger.rosters[rollout.id]))
        elif rollout.state is State.ROLLING_BACK:
            progress.append(_going_back(draft, rollout))
    _standing_orders(draft, ledger.unserved)
    _leavers(draft, ledger.unclaimed)
    draft.forget += [one.id for one in by_age if _is_forgotten(draft, ledger, one)]
    return draft.done(
        [replace(one, notes=draft.notes.get(one.rollout.id, {})) for one in progress],
        [
            line
            for one in by_age
            if one.state is State.SUCCEEDED
            for line in later(one, draft.notes.get(one.id, {}))
        ],
    )


def account(rollout: Rollout, facts: Facts, now: float) -> Progress:
    """How one rollout of ``facts`` that has not ended stands."""
    return next(one for one in plan(facts, now).progress if one.rollout.id == rollout.id)


def accounts(
    facts: Facts, closed: Mapping[str, Sequence[Standing]], now: float
) -> tuple[Progress, ...]:
    """How every rollout stands, in the order of ``facts``; ended ones as in ``closed``, by id.

    An ended rollout is what it had come to when it ended, whatever happened since.
    """
    going_on = {one.rollout.id: one for one in plan(facts, now).progress}
    stages = records_by_rollout(facts.stages)
    return tuple(
        going_on.get(one.id) or accounts_of(one, closed.get(one.id, ()), stages.get(one.id, ()))
        for one in facts.rollouts
    )


# --- Open rollouts --------------------------------------------------------------------------------


def _open(draft: Draft, roster: Roster) -> Progress:
    """Takes an open rollout one step on."""
    rollout = roster.rollout
    for member in roster.fresh.values():
        draft.put(member)
    records = draft.known.records.get(rollout.id, ())
    view = View(roster, records, draft.evidence.get(rollout.id), draft.now)
    over = _over(roster, draft.now)
    taken = Step(over, list(records)) if over else take_step(view)
    _carry_out(draft, view, taken)
    return _progress(draft, roster, taken)


def _progress(draft: Draft, roster: Roster, taken: Step) -> Progress:
    """The accounts after the step: who was released by it stands as nothing yet."""
    new: dict[str, Standing] = {}
    for device in taken.released:
        shown = _shown(draft, roster, device)
        draft.put(shown.member)
        draft.again_at = min(draft.again_at, shown.again_at)
        new[device] = shown.standing
    by_device, census = roster.standings, roster.census
    if new:
        gone = [by_device[one] for one in new if one in by_device]
        by_device, census = {**by_device, **new}, census.with_changes(gone, new.values())
    held = roster.held.union(taken.drawn).difference(taken.released)
    return Progress(
        taken.rollout,
        by_device,
        census,
        tuple(taken.records),
        held,
        roster.incompatible,
        roster.taken,
        tuple(taken.lines),
        taken.gates,
    )


def _shown(draft: Draft, roster: Roster, device: str) -> Shown:
    """What a device shows that was released just now; often it has not heard of it."""
    rollout = roster.rollout
    member = draft.changed[rollout.id][device]
    where = (device, rollout.model, rollout.slot)
    return roster.terms.shown(
        draft.known.by_device[device],
        roster.owned[device],
        member,
        draft.now,
        asked_anew=where in draft.assign,
    )


def _over(roster: Roster, now: float) -> Rollout | None:
    """The rollout, if something outside of it ends it."""
    rollout = roster.rollout
    if roster.terms.is_withdrawn:
        event = Event.WITHDRAWN
        reason = (
            f"{rollout.model}/{rollout.version} is no longer published, nothing more is assigned"
        )
    elif not roster.owned and roster.taken:
        event, reason = Event.TAKEN, f"all its devices went to {named(set(roster.taken.values()))}"
    else:
        return None
    return replace(rollout, state=step(rollout.state, event), ended_at=now, reason=reason)


def _carry_out(draft: Draft, view: View, taken: Step) -> None:
    """Turns a step into rows, members and records."""
    roster = view.roster
    rollout = roster.rollout
    draft.again_at = min(draft.again_at, taken.again_at)
    if taken.rollout != rollout:
        draft.rollouts.append(taken.rollout)
    known = {one.number: one for one in view.records}
    draft.stages += [one for one in taken.records if known.get(one.number) != one]
    for device in taken.drawn:
        draft.put(Member(rollout.id, device, CONTROL))
    if taken.wants_evidence:
        draft.wishes.append(wish(view))
    if taken.rollout.state in OPEN:  # whoever was released has its row, whatever became of it
        for device in sorted(roster.misassigned):
            draft.want(rollout, roster.members[device])
    for device, number in taken.released.items():
        draft.release(rollout, roster.owned[device], number)
    if taken.revert:
        members = roster.members.values()
        draft.revert(rollout, [one for one in members if one.stage in taken.revert])


def wish(view: View) -> EvidenceWish:
    """What the rollout's gates need to know."""
    roster, opened = view.roster, min(one.opened_at for one in view.records if one.opened_at)
    members = roster.members
    proven = [one for one in members.values() if one.proven_at and not one.reverted]
    chosen = heapq.nsmallest(COMPARED, proven, key=lambda one: (-one.stage, one.device))
    # The same draw has left the others aside so far: they compare as well as the control group.
    aside = (roster.free - roster.lapsed) | roster.control
    held = heapq.nsmallest(COMPARED, aside, key=lambda one: (one not in members, one))
    return EvidenceWish(
        roster.rollout.id,
        roster.rollout.model,
        roster.rollout.version,
        stage={one.device: one.proven_at for one in chosen},
        control=dict.fromkeys(held, opened),
    )


# --- The others -----------------------------------------------------------------------------------


def _going_back(draft: Draft, rollout: Rollout) -> Progress:
    """Counts who is back; ends the rollout when nobody is waited for."""
    known = draft.known
    waiting, away, done = [], [], 0
    takers: set[str] = set()
    for member in known.members_of(rollout.id).values():
        device = known.device(member.device)
        if not member.reverted or device is None or device.status is not DeviceStatus.ACTIVE:
            continue
        where = (member.device, rollout.model, rollout.slot)
        row = known.row(where)
        if row is not None and row.rollout != rollout.id:
            takers.add(row.rollout)
            continue
        if is_back(member, rollout, known.said(where), known.releases):
            done += 1
        elif presence(device, draft.now) is Presence.OFFLINE:
            away.append(member.device)
        else:
            waiting.append(member.device)
    lines = back(done, waiting, away)
    newer = takers & known.rollouts.keys()
    if newer and not (waiting or away or done):
        event, reason = Event.TAKEN, f"all its devices went to {named(newer)}"
    else:
        event, reason = Event.BACK, rollout.reason
    if not waiting:
        state = step(rollout.state, event)
        rollout = replace(rollout, state=state, ended_at=draft.now, reason=reason)
        draft.rollouts.append(rollout)
    stood = known.closed.get(rollout.id, ())
    made = accounts_of(rollout, stood, known.records.get(rollout.id, ()))
    return replace(made, steps=lines)


def _standing_orders(
    draft: Draft, unserved: Mapping[Place, tuple[Rollout, Rollout | None]]
) -> None:
    """Rollouts that have succeeded serve whom they match by now."""
    for where in sorted(unserved):
        rollout, newer = unserved[where]
        device = draft.known.device(where[0])
        if device is None or (newer is not None and draft.is_released(newer, where[0])):
            continue
        known = draft.member(rollout, where[0])
        if known is None or known.stage == CONTROL:
            draft.release(rollout, device, len(rollout.policy.stages))
        else:  # it was away from the rollout, and is back
            again = replace(known, reverted=False)
            draft.put(again)
            draft.want(rollout, again)


def _is_forgotten(draft: Draft, ledger: Ledger, rollout: Rollout) -> bool:
    """Whether nobody needs the rollout's members any more (rule 6)."""
    is_over = rollout.state is State.SUCCEEDED and not ledger.rows[rollout.id]
    return is_over and rollout.id not in draft.changed and bool(draft.known.members_of(rollout.id))


def _leavers(draft: Draft, unclaimed: Mapping[Place, Wanted]) -> None:
    """Rule 3, and devices that are no longer in the fleet."""
    known = draft.known
    for where, row in sorted(unclaimed.items()):
        if not known.is_active(where[0]):
            draft.remove[where] = row
            draft.note(row.rollout, "withdrawn, no longer in the fleet", row.device)
        else:
            proven = runs(row.model, known.said(where), known.releases)
            versions = [one.version for one in proven]
            draft.leave(row, known.rollouts[row.rollout], versions)
