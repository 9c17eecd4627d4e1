"""All parts in one open rollout and what they come to, kept as devices change.

What stages are decided by is counted here, so that no decision looks at every device. Whoever owns
the roster puts the part of each device that has changed; the sums are those of the parts, however
they came.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence

from controller.fleet.device import Device
from controller.rollout.account import Tally, tallied
from controller.rollout.claims import Claims
from controller.rollout.cohort import by_lot, lot
from controller.rollout.part import Part, Terms
from controller.rollout.policy import Policy
from controller.rollout.rollout import CONTROL, Member
from controller.rollout.standing import Census, Outcome, Standing


class Roster:
    """The parts in one rollout.

    Attributes:
        rollout: as it is now; all but its state and reason stays.
        owned: devices whose place belongs to the rollout, by id.
        members: of these, those that it has released or holds back, as they are from now on.
        standings: of those that it has released, by device; REVERTED of those that were put back.
        census: the same, grouped.
        free: devices that are owned, and neither released nor held back; lapsed ones among them.
        control: devices that are owned and held back.
        held: all that are held back.
        lapsed: devices that are owned, and are to be released again.
        meant: of the owned devices, those that the selector of a stage matches, by its number.
        sites: of each owned device; empty if the policy asks for none.
        busy: how many devices install, by site; likewise.
        fresh: members that are to be recorded.
        misassigned: devices of which is wanted what the rollout does not want.
        incompatible, taken: devices that match and that it can't have, and why.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.rollout = terms.rollout
        self._parts: dict[str, Part] = {}
        self._order: tuple[str, ...] | None = None
        self._lots: dict[str, int] = {}
        self._proven: dict[int, list[float]] = {}
        self._aside: dict[int, list[float]] = {}
        self._pace: dict[int, list[float]] = {}
        self.owned: dict[str, Device] = {}
        self.members: dict[str, Member] = {}
        self.standings: dict[str, Standing] = {}
        self.census = Census()
        self.free: set[str] = set()
        self.control: set[str] = set()
        self.held: set[str] = set()
        self.lapsed: set[str] = set()
        self.meant: dict[int, set[str]] = {number: set() for number, _ in terms.selectors}
        self.sites: dict[str, str] = {}
        self.busy = Counter[str]()
        self.fresh: dict[str, Member] = {}
        self.misassigned: set[str] = set()
        self.incompatible: dict[str, tuple[str, ...]] = {}
        self.taken: dict[str, str] = {}

    @property
    def policy(self) -> Policy:
        """What the rollout is held to."""
        return self.rollout.policy

    @property
    def released(self) -> int:
        """How many of the owned devices are released."""
        return len(self.owned) - len(self.free) - len(self.control)

    def put(self, device: str, part: Part | None) -> None:
        """The device's part from now on; None if it has none."""
        before = self._parts.pop(device, None)
        if before is not None:
            self._take_out(device, before)
        if part is not None:
            self._parts[device] = part
            self._put_in(device, part)
        if _lot(before) != _lot(part):
            self._order = None
        self._time(before, part)

    def refuse(self, device: str, claims: Claims) -> None:
        """Notes whether the device matches and can't be had."""
        id_ = self.rollout.id
        self.incompatible.pop(device, None)
        self.taken.pop(device, None)
        if id_ in claims.incompatible:
            self.incompatible[device] = claims.incompatible[id_]
        if id_ in claims.taken:
            self.taken[device] = claims.taken[id_]

    def tally(self, number: int) -> Tally:
        """Of one stage."""
        return tallied(self.census, first=number, last=number)

    def so_far(self, number: int) -> Tally:
        """Of all stages up to one."""
        return tallied(self.census, last=number)

    def proven(self, number: int) -> Sequence[float]:
        """When devices of the stage had proven that they run the version, ascending."""
        return self._proven.get(number, ())

    @property
    def released_at(self) -> Sequence[float]:
        """When it released each that it ever did, ascending."""
        return self._pace.get(0, ())

    def aside(self, number: int) -> Sequence[float]:
        """When those devices of the stage were released that are deferred or away, ascending."""
        return self._aside.get(number, ())

    def order(self) -> tuple[str, ...]:
        """The owned devices in the order in which they are drawn."""
        if self._order is None:
            lots, parts = self._lots, self._parts
            for device in self.owned.keys() - lots.keys():
                lots[device] = lot(self.rollout.id, device)
            drawn = {device: lots[device] for device in self.owned}
            stratified = self.policy.stratify_by
            strata = {one: parts[one].stratum for one in self.owned} if stratified else {}
            self._order = by_lot(self.rollout.id, drawn, strata)
        return self._order

    def _put_in(self, device: str, part: Part) -> None:
        member = part.member
        if member is not None and member.stage == CONTROL:
            self.held.add(device)
        if not part.owned or part.device is None:
            return
        self.owned[device] = part.device
        if member is not None:
            self.members[device] = member
        if part.is_new and member is not None:
            self.fresh[device] = member
        if part.standing is not None:
            self.standings[device] = part.standing
            self.census.add(part.standing)
        self._mark(device, part)
        for number in part.meant:
            self.meant[number].add(device)
        if part.site:
            self.sites[device] = part.site
        self.busy[part.site] += _is_busy(part)

    def _mark(self, device: str, part: Part) -> None:
        if part.member is None or part.lapsed:
            self.free.add(device)
        elif part.member.stage == CONTROL:
            self.control.add(device)
        if part.lapsed:
            self.lapsed.add(device)
        if part.misassigned:
            self.misassigned.add(device)

    def _take_out(self, device: str, part: Part) -> None:
        self.held.discard(device)
        if not part.owned:
            return
        for known in (self.owned, self.members, self.fresh, self.standings, self.sites):
            known.pop(device, None)
        for marked in (self.free, self.control, self.lapsed, self.misassigned):
            marked.discard(device)
        if part.standing is not None:
            self.census.remove(part.standing)
        for number in part.meant:
            self.meant[number].discard(device)
        self.busy[part.site] -= _is_busy(part)

    def _time(self, before: Part | None, after: Part | None) -> None:
        """Keeps the times in order."""
        for times, of in ((self._proven, _proven), (self._aside, _aside), (self._pace, _released)):
            old, new = of(before), of(after)
            if old == new:
                continue
            if old is not None:
                known = times[old[0]]
                del known[bisect_left(known, old[1])]
            if new is not None:
                insort(times.setdefault(new[0], []), new[1])


Timed = tuple[int, float]
"""A stage's number, and a time in Unix seconds."""


def _proven(part: Part | None) -> Timed | None:
    member = None if part is None else part.counts
    return (member.stage, member.proven_at) if member is not None and member.proven_at else None


def _aside(part: Part | None) -> Timed | None:
    member = None if part is None else part.counts
    if part is None or member is None or part.standing is None:
        return None
    is_aside = part.standing.outcome in {Outcome.DEFERRED, Outcome.AWAY}
    return (member.stage, member.released_at) if is_aside else None


def _released(part: Part | None) -> Timed | None:
    member = None if part is None else part.released
    return (0, member.released_at) if member is not None else None


def _is_busy(part: Part) -> bool:
    return part.standing is not None and part.standing.outcome is Outcome.WAITING


def _lot(part: Part | None) -> tuple[str, ...] | None:
    """What the device's place in the order depends on; None if it has none."""
    return part.stratum if part is not None and part.owned else None
