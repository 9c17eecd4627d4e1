"""Which rollout each place (device, model, slot) belongs to.

Rules:

1. A place belongs to the newest rollout, of those that are open and those that have succeeded, that
   its device matches and whose version it can run. Labels and facts may change at any time; the next
   plan follows them.
2. A rollout that has ended keeps what it assigned: an older one never takes a place back from it,
   unless the version there is no longer published, and then an open one must want the place: a
   recall alone brings no older version back.
3. While an open rollout has not released a device, what stands there stays; if nothing does, the
   newest rollout that has succeeded may still put its version there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.fleet.attributes import attributes
from controller.fleet.device import Device, DeviceStatus, SlotState
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.rollout.compatibility import Compatibility
from controller.rollout.facts import Facts, Place, age, runs, slots_by_place
from controller.rollout.rollout import ASSIGNING, OPEN, Rollout, Wanted

CLAIMING = OPEN | ASSIGNING


@dataclass(slots=True)
class Claims:
    """Who has which place, and what each open rollout may say of devices that it lacks.

    Attributes:
        open: by place, the open rollout that it belongs to.
        standing: by place, the one that has succeeded and has the place, open ones left aside.
        reserved: places that a rollout that has succeeded leaves alone, but for one that is older.
    """

    open: dict[Place, Rollout] = field(default_factory=dict)
    standing: dict[Place, Rollout] = field(default_factory=dict)
    reserved: dict[Place, Rollout] = field(default_factory=dict)
    incompatible: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    taken: dict[str, dict[str, str]] = field(default_factory=dict)

    def devices(self, rollout: Rollout) -> list[str]:
        """Whose place belongs to the open rollout."""
        return [where[0] for where, owner in self.open.items() if owner.id == rollout.id]


def claim(facts: Facts, rows: Mapping[Place, Wanted]) -> Claims:
    """Whom every place belongs to; ``rows`` is ``wanted`` by place."""
    claims = _Claiming(facts, rows)
    for rollout in sorted(facts.rollouts, key=age, reverse=True):
        if rollout.state in CLAIMING:
            claims.visit(rollout)
    return claims.found


class _Claiming:
    def __init__(self, facts: Facts, rows: Mapping[Place, Wanted]) -> None:
        self.found = Claims()
        self._facts = facts
        self._rows = rows
        self._by_id = {one.id: one for one in facts.rollouts}
        self._active = [one for one in facts.devices if one.status is DeviceStatus.ACTIVE]
        self._seen = {one.id: attributes(one) for one in self._active}
        self._slots = slots_by_place(facts.slots)

    def visit(self, rollout: Rollout) -> None:
        """Lets the rollout claim what no newer one has."""
        release = self._facts.releases.get((rollout.model, rollout.version))
        if release is None or not release.published:
            return
        selector, is_open = parse(rollout.selector), rollout.state in OPEN
        compatibility = Compatibility(release)
        for device in self._active:
            where = (device.id, rollout.model, rollout.slot)
            if not is_open and where in self.found.standing:
                continue  # most places, whatever many rollouts have succeeded before
            if not matches(selector, self._seen[device.id]):
                continue
            reasons = compatibility.objections(device)
            if reasons:
                self.found.incompatible.setdefault(rollout.id, {})[device.id] = reasons
            elif is_open:
                self._open(rollout, where, device)
            else:
                self._standing(rollout, where)

    def _open(self, rollout: Rollout, where: Place, device: Device) -> None:
        found = self.found
        rival = (
            found.open.get(where)
            or found.standing.get(where)
            or _holder(rollout, self._rows.get(where), self._by_id, self._facts)
        )
        if rival is None and where in found.reserved:
            rival = found.standing[where] = found.reserved[where]
        if rival is None:
            found.open[where] = rollout
        else:
            found.taken.setdefault(rollout.id, {})[device.id] = rival.id

    def _standing(self, rollout: Rollout, where: Place) -> None:
        found, row = self.found, self._rows.get(where)
        if _holder(rollout, row, self._by_id, self._facts) is not None:
            return
        owner = found.open.get(where)
        put_there = row is not None and owner is not None and row.rollout == owner.id
        if put_there or (row is not None and where[0] in found.taken.get(row.rollout, {})):
            return  # by the open rollout, or by one that it has taken the place from
        said = self._slots.get(where, ())
        if _stays(rollout, row, self._by_id, said, self._facts):
            found.reserved.setdefault(where, rollout)
        else:
            found.standing[where] = found.reserved.get(where, rollout)


def _stays(
    rollout: Rollout,
    row: Wanted | None,
    by_id: Mapping[str, Rollout],
    slots: Sequence[SlotState],
    facts: Facts,
) -> bool:
    """Whether what is there is no business of a rollout that has succeeded.

    That is what belongs to nobody, and of what a newer rollout has put there what was recalled since
    and what leaves something that the device has proven to run.
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
    return recalled or bool(runs(rollout.model, slots, facts))


def _holder(
    rollout: Rollout, row: Wanted | None, by_id: Mapping[str, Rollout], facts: Facts
) -> Rollout | None:
    """The newer rollout that has ended, or goes back, and whose row stands in the way (rule 2)."""
    if row is None:
        return None
    holder = by_id.get(row.rollout)
    if holder is None or holder.state in OPEN or age(holder) <= age(rollout):
        return None
    release = facts.releases.get((row.model, row.version))
    return holder if release is not None and release.published else None
