"""What to want of which device, and why: facts and the time in, a plan out.

Rules:

1. A place (device, model, slot) belongs to the newest rollout, of those that run and those that have
   succeeded, that its device matches and whose version it can run. Labels and facts may change at
   any time; the next plan follows them.
2. A rollout that has ended keeps what it assigned: an older one never takes a place back from it,
   unless the version there is no longer published, and then one that runs must want the place: a
   recall alone brings no older version back.
3. Only published versions are assigned, only to active devices.
4. A device that matches no longer: what it has proven to run stays until a rollout that runs wants
   the place; an install that is under way
   is withdrawn, and the place goes back to the version that the device has proven to run.
5. A rollout ends when every device of it is decided, when newer ones have taken all its devices,
   or when its version is no longer published. Devices that are away keep it open.
6. Planning again after a plan was recorded changes nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.fleet.attributes import attributes
from controller.fleet.device import Device, DeviceStatus, SlotState
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.rollout.account import Outcome, Progress, Standing, standing
from controller.rollout.compatibility import objections
from controller.rollout.explain import details, ended, later, named, summary
from controller.rollout.facts import Facts, Place, Release, age, place, proven, slots_by_place
from controller.rollout.rollout import ASSIGNING, Rollout, State, Wanted


@dataclass(frozen=True, slots=True)
class Change:
    """A rollout ends."""

    rollout: str
    state: State


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record, then to carry out.

    Attributes:
        assign: rows that rollouts want, new or instead of another.
        restore: rows for what a device has proven to run, where no rollout wants anything any more.
        remove: rows that go.
        changes: rollouts that end.
        progress: the accounts of every rollout that was running, oldest first.
        later: what rollouts that have succeeded do for devices that match by now, in sentences.
    """

    assign: tuple[Wanted, ...] = ()
    restore: tuple[Wanted, ...] = ()
    remove: tuple[Wanted, ...] = ()
    changes: tuple[Change, ...] = ()
    progress: tuple[Progress, ...] = ()
    later: tuple[str, ...] = ()

    @property
    def because(self) -> tuple[str, ...]:
        """The whole plan in sentences."""
        return (*(line for one in self.progress for line in one.lines), *self.later)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to record."""
        return not (self.assign or self.restore or self.remove or self.changes)


@dataclass(slots=True)
class _Claims:
    """Who has which place, and what each running rollout may say of devices that it lacks.

    ``reserved``: places that a rollout that has succeeded leaves alone, but for one that is older.
    """

    owner: dict[Place, Rollout] = field(default_factory=dict)
    reserved: dict[Place, Rollout] = field(default_factory=dict)
    incompatible: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    taken: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Rows:
    """Changes to ``wanted``; ``notes`` are sentences by rollout."""

    assign: list[Wanted] = field(default_factory=list)
    restore: list[Wanted] = field(default_factory=list)
    remove: list[Wanted] = field(default_factory=list)
    notes: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def note(self, rollout: str, sentence: str, device: str) -> None:
        self.notes.setdefault(rollout, {}).setdefault(sentence, []).append(device)


def plan(facts: Facts, now: float) -> Plan:
    """What to want of whom at ``now`` (Unix seconds), with reasons."""
    assigning = sorted((one for one in facts.rollouts if one.state in ASSIGNING), key=age)
    running = [one for one in assigning if one.state is State.RUNNING]
    rows = {place(row): row for row in facts.wanted}
    claims = _claim(facts, assigning, rows)
    changed = _rows(facts, claims, rows, now)
    after = _apply(rows, changed)
    # What a device answered to a row that was there before says nothing of the one that is new.
    new = {place(row) for row in changed.assign}
    asked = {where: at for where, at in facts.asked.items() if where not in new}
    known = dataclasses.replace(facts, asked=asked)
    progress = tuple(
        _progress(one, known, _devices(one, after, claims), claims, changed, now) for one in running
    )
    return Plan(
        assign=tuple(changed.assign),
        restore=tuple(changed.restore),
        remove=tuple(changed.remove),
        changes=tuple(
            Change(one.rollout.id, one.rollout.state)
            for one in progress
            if one.rollout.state is not State.RUNNING
        ),
        progress=progress,
        later=tuple(
            line
            for one in assigning
            if one.state is State.SUCCEEDED
            for line in later(one, changed.notes.get(one.id, {}))
        ),
    )


def accounts(
    facts: Facts, closed: Mapping[str, Sequence[Standing]], now: float
) -> tuple[Progress, ...]:
    """How every rollout stands, in the order of ``facts``; ended ones as in ``closed``, by id."""
    running = {one.rollout.id: one for one in plan(facts, now).progress}
    return tuple(
        running.get(one.id) or account_ended(one, closed.get(one.id, ())) for one in facts.rollouts
    )


def account(rollout: Rollout, facts: Facts, now: float) -> Progress:
    """How one rollout of ``facts`` that runs stands."""
    return next(one for one in plan(facts, now).progress if one.rollout.id == rollout.id)


def account_ended(rollout: Rollout, standings: Sequence[Standing]) -> Progress:
    """An ended rollout is what it had come to when it ended, whatever happened since."""
    return _told(Progress(rollout, tuple(standings)), {}, rollout.state)


def _claim(facts: Facts, assigning: list[Rollout], rows: Mapping[Place, Wanted]) -> _Claims:
    claims = _Claims()
    by_id = {one.id: one for one in facts.rollouts}
    active = [one for one in facts.devices if one.status is DeviceStatus.ACTIVE]
    seen = {one.id: attributes(one) for one in active}
    slots = slots_by_place(facts.slots)
    for rollout in reversed(assigning):
        runs = rollout.state is State.RUNNING
        release = facts.releases.get((rollout.model, rollout.version))
        if release is None or not release.published:
            continue
        selector = parse(rollout.selector)
        for device in active:
            where = (device.id, rollout.model, rollout.slot)
            if not runs and where in claims.owner:
                continue  # most places, whatever many rollouts have succeeded before
            if not matches(selector, seen[device.id]):
                continue
            reasons = objections(release, device)
            if reasons:
                claims.incompatible.setdefault(rollout.id, {})[device.id] = reasons
                continue
            row = rows.get(where)
            rival = claims.owner.get(where) or _holder(rollout, row, by_id, facts)
            said = slots.get(where, ())
            if rival is None and not runs and _stays(rollout, row, by_id, said, facts):
                claims.reserved.setdefault(where, rollout)
            elif rival is None:
                rival = claims.owner[where] = claims.reserved.get(where, rollout)
            if rival not in {None, rollout}:
                claims.taken.setdefault(rollout.id, {})[device.id] = rival.id
    return claims


def _stays(
    rollout: Rollout,
    row: Wanted | None,
    by_id: Mapping[str, Rollout],
    slots: tuple[SlotState, ...],
    facts: Facts,
) -> bool:
    """Whether what is there is no business of a rollout that has succeeded.

    That is what belongs to nobody, and of what a newer rollout has put there what was recalled since
    and what leaves something that the device has proven to run (rules 2 and 4).
    """
    if row is None:
        return False
    holder = by_id.get(row.rollout)
    if holder is None:
        return True
    if age(holder) <= age(rollout):
        return False
    release = facts.releases.get((row.model, row.version))
    recalled = release is None or not release.published
    return recalled or bool(_runs(rollout.model, slots, facts))


def _runs(model: str, slots: tuple[SlotState, ...], facts: Facts) -> Sequence[Release]:
    """The versions that may be run and are proven to."""
    known = facts.releases.values()
    return [one for one in known if one.model == model and one.published and proven(slots, one)]


def _holder(
    rollout: Rollout, row: Wanted | None, by_id: Mapping[str, Rollout], facts: Facts
) -> Rollout | None:
    """The newer rollout that has ended and whose row stands in the way (rule 2)."""
    if row is None:
        return None
    holder = by_id.get(row.rollout)
    if holder is None or holder.state is State.RUNNING or age(holder) <= age(rollout):
        return None
    release = facts.releases.get((row.model, row.version))
    return holder if release is not None and release.published else None


def _rows(facts: Facts, claims: _Claims, rows: Mapping[Place, Wanted], now: float) -> _Rows:
    changed = _Rows()
    for where, rollout in sorted(claims.owner.items()):
        row = rows.get(where)
        if row is not None and (row.rollout, row.version) == (rollout.id, rollout.version):
            continue
        device, model, slot = where
        changed.assign.append(Wanted(device, model, slot, rollout.version, rollout.id, now))
        before = "" if row is None else f" instead of {row.model}/{row.version}"
        changed.note(rollout.id, f"assigned{before}", device)
    running = {one.id: one for one in facts.rollouts if one.state is State.RUNNING}
    devices = {one.id: one for one in facts.devices}
    slots = slots_by_place(facts.slots)
    for where, row in sorted(rows.items()):
        device_known = devices.get(row.device)
        if device_known is None or device_known.status is not DeviceStatus.ACTIVE:
            changed.remove.append(row)
            changed.note(row.rollout, "withdrawn, no longer in the fleet", row.device)
        elif where not in claims.owner and row.rollout in running:
            _leave(row, running[row.rollout], device_known, slots.get(where, ()), facts, changed)
    return changed


def _leave(
    row: Wanted,
    rollout: Rollout,
    device: Device,
    slots: tuple[SlotState, ...],
    facts: Facts,
    changed: _Rows,
) -> None:
    """Rule 4, for a row whose running rollout no longer claims it.

    The row that stays belongs to no rollout: a later report that is silent about the version, as
    of an agent that is only starting, then takes nothing from the device.
    """
    release = facts.releases.get((row.model, row.version))
    if release is None or not release.published:
        return  # the device itself refuses it, and nothing better is known here
    runs = _runs(row.model, slots, facts)
    if not runs:
        changed.remove.append(row)
        changed.note(rollout.id, "withdrawn, no longer match", device.id)
    elif release in runs:
        changed.restore.append(dataclasses.replace(row, rollout=""))
        changed.note(rollout.id, "no longer match, keep running it", device.id)
    else:
        changed.restore.append(dataclasses.replace(row, version=runs[0].version, rollout=""))
        changed.note(rollout.id, f"no longer match, put back to {runs[0].reference}", device.id)


def _apply(rows: Mapping[Place, Wanted], changed: _Rows) -> Mapping[Place, Wanted]:
    gone = {place(row) for row in changed.remove}
    put = {place(row): row for row in (*changed.assign, *changed.restore)}
    return {where: row for where, row in {**rows, **put}.items() if where not in gone}


def _devices(rollout: Rollout, rows: Mapping[Place, Wanted], claims: _Claims) -> set[str]:
    """Whom the rollout answers for. A version that is no longer published claims nobody anew."""
    owned = {where[0] for where, owner in claims.owner.items() if owner.id == rollout.id}
    mine = {
        row.device
        for row in rows.values()
        if row.rollout == rollout.id and row.version == rollout.version
    }
    return owned & mine


def _standings(
    rollout: Rollout, facts: Facts, devices: set[str], now: float
) -> tuple[Standing, ...]:
    release = facts.releases.get((rollout.model, rollout.version))
    slots = slots_by_place(
        one for one in facts.slots if (one.model, one.slot) == (rollout.model, rollout.slot)
    )
    found = []
    for device in sorted(facts.devices, key=lambda one: one.id):
        if device.id in devices:
            where = (device.id, rollout.model, rollout.slot)
            said, asked = slots.get(where, ()), facts.asked.get(where)
            found.append(standing(device, release, said, asked, now))
    return tuple(found)


def _progress(
    rollout: Rollout,
    facts: Facts,
    devices: set[str],
    claims: _Claims,
    changed: _Rows,
    now: float,
) -> Progress:
    progress = Progress(
        rollout,
        _standings(rollout, facts, devices, now),
        claims.incompatible.get(rollout.id, {}),
        claims.taken.get(rollout.id, {}),
    )
    release = facts.releases.get((rollout.model, rollout.version))
    state = _decide(progress, published=release is not None and release.published)
    notes = changed.notes.get(rollout.id, {})
    if state is State.RUNNING:
        return _told(progress, notes)
    done = dataclasses.replace(rollout, state=state, ended_at=now)
    return _told(dataclasses.replace(progress, rollout=done), notes, ended(state, progress))


def _decide(progress: Progress, *, published: bool) -> State:
    """Rule 5."""
    if not published:
        return State.ABORTED
    if progress.decided:
        return State.FAILED if progress.count(Outcome.FAILED) else State.SUCCEEDED
    if not progress.standings and progress.taken:
        return State.SUPERSEDED
    return State.RUNNING


def _told(progress: Progress, notes: Mapping[str, list[str]], end: str = "") -> Progress:
    lines = [summary(progress)]
    lines += [f"  {sentence}: {named(devices)}" for sentence, devices in sorted(notes.items())]
    lines += details(progress)
    if end:
        lines.append(f"  {end}")
    return dataclasses.replace(progress, lines=tuple(lines))
