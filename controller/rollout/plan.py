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
6. Planning again after a plan was recorded changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from controller.fleet.device import Device, DeviceStatus
from controller.fleet.presence import Presence, presence
from controller.rollout.account import Progress, Question, changes_at, standing, timed
from controller.rollout.draft import Draft, EvidenceWish, Plan
from controller.rollout.explain import back, later, named, told
from controller.rollout.facts import Facts, age, runs
from controller.rollout.reversal import is_back
from controller.rollout.rollout import (
    CONTROL,
    OPEN,
    Event,
    Member,
    Rollout,
    StageRecord,
    State,
    step,
)
from controller.rollout.staging import Step, View, stages_of, take_step
from controller.rollout.standing import Outcome, Standing

COMPARED: Final = 1000
"""So many devices on each side tell what more could: reading them takes a tenth of a second."""


def plan(facts: Facts, now: float) -> Plan:
    """What to want of whom at ``now`` (Unix seconds), with reasons."""
    draft, progress = Draft(facts, now), []
    by_age = sorted(facts.rollouts, key=age)
    for rollout in by_age:
        if rollout.state in OPEN:
            progress.append(_open(draft, rollout))
        elif rollout.state is State.ROLLING_BACK:
            progress.append(_going_back(draft, rollout))
    _standing_orders(draft)
    _leavers(draft)
    return draft.done(
        [told(one, draft.notes.get(one.rollout.id, {})) for one in progress],
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
    """How every rollout stands, in the order of ``facts``; ended ones as in ``closed``, by id."""
    going_on = {one.rollout.id: one for one in plan(facts, now).progress}
    stages: dict[str, list[StageRecord]] = {}
    for record in facts.stages:
        stages.setdefault(record.rollout, []).append(record)
    return tuple(
        going_on.get(one.id) or account_ended(one, closed.get(one.id, ()), stages.get(one.id, ()))
        for one in facts.rollouts
    )


def account_ended(
    rollout: Rollout, standings: Sequence[Standing], stages: Sequence[StageRecord]
) -> Progress:
    """An ended rollout is what it had come to when it ended, whatever happened since."""
    return told(Progress(rollout, tuple(standings), tuple(stages)), {})


# --- Open rollouts --------------------------------------------------------------------------------


def _open(draft: Draft, rollout: Rollout) -> Progress:
    """Takes an open rollout one step on."""
    mine = draft.members.get(rollout.id, {})
    owned = {device: draft.devices[device] for device in draft.claims.devices(rollout)}
    if _withdrawn(draft, rollout):  # nobody claims a place for it, and yet some run it
        owned = {
            device: draft.devices[device]
            for device in mine.keys() - draft.lapsed(rollout)
            if _is_active(draft, device)
        }
    members = {device: one for device, one in mine.items() if device in owned}
    records = tuple(draft.records.get(rollout.id, ()))
    lapsed = draft.lapsed(rollout) & owned.keys()
    there = {device: one for device, one in members.items() if device not in lapsed}
    standings = _standings(draft, rollout, there, records)
    members |= {one: new for one, new in draft.changed.get(rollout.id, {}).items() if one in owned}
    evidence = draft.facts.evidence.get(rollout.id)
    view = View(
        rollout=rollout,
        owned=owned,
        members=members,
        records=records,
        standings=standings,
        evidence=evidence,
        now=draft.now,
        lapsed=lapsed,
        released_at=tuple(one.released_at for one in mine.values() if one.stage != CONTROL),
    )
    over = _over(draft, rollout, owned)
    taken = Step(over, list(records)) if over else take_step(view)
    _carry_out(draft, view, taken)
    after = draft.members_after(rollout.id)
    new = {device: after[device] for device in taken.released}
    standings |= _standings(draft, rollout, new, taken.records)
    standings |= {
        device: _put_back(after[device])
        for device in lapsed
        if after[device].reverted and device not in standings
    }
    return Progress(
        taken.rollout,
        tuple(standings[device] for device in sorted(standings)),
        tuple(taken.records),
        tuple(sorted(one.device for one in after.values() if one.stage == CONTROL)),
        draft.claims.incompatible.get(rollout.id, {}),
        draft.claims.taken.get(rollout.id, {}),
        tuple(taken.lines),
        taken.gates,
    )


def _withdrawn(draft: Draft, rollout: Rollout) -> bool:
    release = draft.facts.releases.get((rollout.model, rollout.version))
    return release is None or not release.published


def _put_back(member: Member) -> Standing:
    return Standing(member.device, Outcome.REVERTED, stage=member.stage)


def _over(draft: Draft, rollout: Rollout, owned: Mapping[str, Device]) -> Rollout | None:
    """The rollout, if something outside of it ends it."""
    if _withdrawn(draft, rollout):
        event = Event.WITHDRAWN
        reason = (
            f"{rollout.model}/{rollout.version} is no longer published, nothing more is assigned"
        )
    elif not owned and (taken := draft.claims.taken.get(rollout.id, {})):
        event, reason = Event.TAKEN, f"all its devices went to {named(set(taken.values()))}"
    else:
        return None
    return replace(rollout, state=step(rollout.state, event), ended_at=draft.now, reason=reason)


def _standings(
    draft: Draft,
    rollout: Rollout,
    members: Mapping[str, Member],
    records: Sequence[StageRecord],
) -> dict[str, Standing]:
    """How the released members stand."""
    stages = stages_of(rollout.policy, control=len(records) > len(rollout.policy.stages))
    release = draft.facts.releases.get((rollout.model, rollout.version))
    found = {}
    for device, member in members.items():
        if member.stage == CONTROL:
            continue
        where = (device, rollout.model, rollout.slot)
        row = draft.rows.get(where)
        # What it answered to another row, or before people asked again, says nothing of this one.
        new = where in draft.assign or (row is not None and row.attempt != member.attempt)
        question = Question(
            member,
            stages[min(member.stage, len(stages) - 1)],
            release,
            None if new else draft.facts.asked.get(where),
            rollout.policy.silence_seconds,
        )
        found[device] = standing(draft.devices[device], draft.said(where), question, draft.now)
        at = changes_at(draft.devices[device], found[device], question, draft.now)
        draft.again_at = min(draft.again_at, at)
        after = timed(member, draft.devices[device], found[device].outcome, draft.now)
        if found[device].outcome is Outcome.OK and not member.proven_at:
            after = replace(after, proven_at=draft.now)
        if after != member:
            draft.put(after)
    return found


def _carry_out(draft: Draft, view: View, taken: Step) -> None:
    """Turns a step into rows, members and records."""
    rollout = view.rollout
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
        for member in view.members.values():
            if member.stage != CONTROL and member.device not in view.lapsed:
                draft.want(rollout, member)
    for device, number in taken.released.items():
        draft.release(rollout, view.owned[device], number)
    if taken.revert:
        draft.revert(rollout, [one for one in view.members.values() if one.stage in taken.revert])


def wish(view: View) -> EvidenceWish:
    """What the rollout's gates need to know."""
    rollout, opened = view.rollout, min(one.opened_at for one in view.records if one.opened_at)
    released = {one.device for one in view.members.values() if one.stage != CONTROL}
    proven = [one for one in view.members.values() if one.proven_at and not one.reverted]
    proven.sort(key=lambda one: (-one.stage, one.device))
    # The same draw has left the others aside so far: they compare as well as the control group.
    held = sorted(view.owned.keys() - released, key=lambda one: (one not in view.members, one))
    return EvidenceWish(
        rollout.id,
        rollout.model,
        rollout.version,
        stage={one.device: one.proven_at for one in proven[:COMPARED]},
        control=dict.fromkeys(held[:COMPARED], opened),
    )


# --- The others -----------------------------------------------------------------------------------


def _going_back(draft: Draft, rollout: Rollout) -> Progress:
    """Counts who is back; ends the rollout when nobody is waited for."""
    waiting, away, done = [], [], 0
    takers: set[str] = set()
    for member in draft.members.get(rollout.id, {}).values():
        where = (member.device, rollout.model, rollout.slot)
        if not member.reverted or not _is_active(draft, member.device):
            continue
        row = draft.rows.get(where)
        if row is not None and row.rollout != rollout.id:
            takers.add(row.rollout)
            continue
        if is_back(member, rollout, draft.said(where), draft.facts):
            done += 1
        elif presence(draft.devices[member.device], draft.now) is Presence.OFFLINE:
            away.append(member.device)
        else:
            waiting.append(member.device)
    lines = back(done, waiting, away)
    newer = takers & {one.id for one in draft.facts.rollouts}
    if newer and not (waiting or away or done):
        event, reason = Event.TAKEN, f"all its devices went to {named(newer)}"
    else:
        event, reason = Event.BACK, rollout.reason
    if not waiting:
        state = step(rollout.state, event)
        rollout = replace(rollout, state=state, ended_at=draft.now, reason=reason)
        draft.rollouts.append(rollout)
    stages = tuple(draft.records.get(rollout.id, ()))
    return Progress(rollout, draft.facts.closed.get(rollout.id, ()), stages, lines=lines)


def _is_active(draft: Draft, device: str) -> bool:
    known = draft.devices.get(device)
    return known is not None and known.status is DeviceStatus.ACTIVE


def _standing_orders(draft: Draft) -> None:
    """Rollouts that have succeeded serve whom they match by now."""
    for where, rollout in sorted(draft.claims.standing.items()):
        newer = draft.claims.open.get(where)
        if newer is not None and draft.is_released(newer, where[0]):
            continue
        row = draft.rows.get(where)
        if row is not None and (row.rollout, row.version) == (rollout.id, rollout.version):
            continue
        known = draft.members.get(rollout.id, {}).get(where[0])
        if known is None or known.stage == CONTROL:
            draft.release(rollout, draft.devices[where[0]], len(rollout.policy.stages))
        else:  # it was away from the rollout, and is back
            again = replace(known, reverted=False)
            draft.put(again)
            draft.want(rollout, again)


def _leavers(draft: Draft) -> None:
    """Rule 3, and devices that are no longer in the fleet."""
    open_ = {one.id: one for one in draft.facts.rollouts if one.state in OPEN}
    claimed = draft.claims.open.keys() | draft.claims.standing.keys()
    for where, row in sorted(draft.rows.items()):
        device = draft.devices.get(row.device)
        if device is None or device.status is not DeviceStatus.ACTIVE:
            draft.remove[where] = row
            draft.note(row.rollout, "withdrawn, no longer in the fleet", row.device)
            continue
        release = draft.facts.releases.get((row.model, row.version))
        # What is not published the device itself refuses, and nothing better is known here.
        published = release is not None and release.published
        if where not in claimed and row.rollout in open_ and published:
            proven = runs(row.model, draft.said(where), draft.facts)
            draft.leave(row, open_[row.rollout], [one.version for one in proven])
