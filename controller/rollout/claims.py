"""Which rollout each place of a device (model, slot) belongs to.

Rules:

1. A place belongs to the newest rollout, of those that are open and those that have succeeded, that
   its device matches and whose version it can run. Labels and facts may change at any time; the next
   plan follows them.
2. A rollout that has ended keeps what it assigned: an older one never takes a place back from it,
   unless the version there is no longer published, and then an open one must want the place: a
   recall alone brings no older version back.
3. While an open rollout has not released a device, what stands there stays; if nothing does, the
   newest rollout that has succeeded may still put its version there.

A device is asked alone: nothing that is known of another one changes what it is told.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controller.fleet.attributes import attributes
from controller.fleet.device import Device, SlotState
from controller.fleet.selector import Selector, matches
from controller.fleet.selector_parser import parse
from controller.rollout.compatibility import Compatibility
from controller.rollout.facts import DeviceFacts, Releases, Spot, age, runs
from controller.rollout.rollout import ASSIGNING, OPEN, Rollout, Wanted


@dataclass(slots=True)
class Claims:
    """Who has which place of one device, and what rollouts that don't have it may say of it.

    Attributes:
        open: the open rollout that the place belongs to.
        standing: the one that has succeeded and has the place, open ones left aside.
        reserved: places that a rollout that has succeeded leaves alone, but for one that is older.
        incompatible: by rollout that it matches, why it can't run the version.
        taken: by open rollout that it matches, the newer one that has the place.
    """

    open: dict[Spot, Rollout] = field(default_factory=dict)
    standing: dict[Spot, Rollout] = field(default_factory=dict)
    reserved: dict[Spot, Rollout] = field(default_factory=dict)
    incompatible: dict[str, tuple[str, ...]] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claimant:
    """A rollout that may claim places, and what it asks of every device."""

    rollout: Rollout
    selector: Selector
    compatibility: Compatibility


@dataclass(frozen=True, slots=True)
class Claimants:
    """Those of all rollouts that may claim places, newest first; made anew when one begins or ends."""

    newest_first: Sequence[Claimant]
    rollouts: Mapping[str, Rollout]
    releases: Releases

    @classmethod
    def of(cls, rollouts: Iterable[Rollout], releases: Releases) -> "Claimants":
        """All rollouts may be named."""
        by_id = {one.id: one for one in rollouts}
        found = []
        for rollout in sorted(by_id.values(), key=age, reverse=True):
            release = releases.get((rollout.model, rollout.version))
            if rollout.state in OPEN | ASSIGNING and release is not None and release.published:
                found.append(Claimant(rollout, parse(rollout.selector), Compatibility(release)))
        return cls(found, by_id, releases)

    def claim(self, known: DeviceFacts) -> Claims:
        """Whom the device's places belong to."""
        claiming = _Claiming(known, self)
        if known.device is not None and known.is_active:
            seen = attributes(known.device)
            for one in self.newest_first:
                claiming.visit(one, known.device, seen)
        return claiming.found


class _Claiming:
    def __init__(self, known: DeviceFacts, among: Claimants) -> None:
        self.found = Claims()
        self._known = known
        self._among = among

    def visit(self, claimant: Claimant, device: Device, seen: Mapping[str, str]) -> None:
        """Lets the rollout claim what no newer one has."""
        rollout = claimant.rollout
        where, is_open = (rollout.model, rollout.slot), rollout.state in OPEN
        if not is_open and where in self.found.standing:
            return  # most places, whatever many rollouts have succeeded before
        if not matches(claimant.selector, seen):
            return
        reasons = claimant.compatibility.objections(device)
        if reasons:
            self.found.incompatible[rollout.id] = reasons
        elif is_open:
            self._open(rollout, where)
        else:
            self._standing(rollout, where)

    def _open(self, rollout: Rollout, where: Spot) -> None:
        found = self.found
        rival = (
            found.open.get(where)
            or found.standing.get(where)
            or self._holder(rollout, self._known.row(*where))
        )
        if rival is None and where in found.reserved:
            rival = found.standing[where] = found.reserved[where]
        if rival is None:
            found.open[where] = rollout
        else:
            found.taken[rollout.id] = rival.id

    def _standing(self, rollout: Rollout, where: Spot) -> None:
        found, row = self.found, self._known.row(*where)
        if self._holder(rollout, row) is not None:
            return
        owner = found.open.get(where)
        put_there = row is not None and owner is not None and row.rollout == owner.id
        if put_there or (row is not None and row.rollout in found.taken):
            return  # by the open rollout, or by one that it has taken the place from
        if self._stays(rollout, row, self._known.said(*where)):
            found.reserved.setdefault(where, rollout)
        else:
            found.standing[where] = found.reserved.get(where, rollout)

    def _stays(self, rollout: Rollout, row: Wanted | None, slots: Sequence[SlotState]) -> bool:
        """Whether what is there is no business of a rollout that has succeeded.

        That is what belongs to nobody, and of what a newer rollout has put there what was recalled
        since and what leaves something that the device has proven to run.
        """
        if row is None:
            return False
        holder = self._among.rollouts.get(row.rollout)
        if holder is None:
            return True
        if age(holder) <= age(rollout):
            return False
        return not self._is_published(row) or bool(runs(rollout.model, slots, self._among.releases))

    def _holder(self, rollout: Rollout, row: Wanted | None) -> Rollout | None:
        """The newer rollout that has ended, or goes back, and whose row stands in the way (rule 2)."""
        if row is None:
            return None
        holder = self._among.rollouts.get(row.rollout)
        if holder is None or holder.state in OPEN or age(holder) <= age(rollout):
            return None
        return holder if self._is_published(row) else None

    def _is_published(self, row: Wanted) -> bool:
        release = self._among.releases.get((row.model, row.version))
        return release is not None and release.published
