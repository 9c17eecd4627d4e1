"""What is known of the whole fleet and what follows of it, kept as things change.

Rules:

1. What follows of one device follows of that device, the rollouts and the time alone (``claims.py``,
   ``part.py``): whoever tells of a change has this device looked at again, and no other.
2. Time changes a standing at a moment that is known before: then that device is looked at again. If
   the clock was set back, all are.
3. A rollout that begins or ends, or a version that is published or recalled, has all looked at again.
4. A plan made from a ledger is the plan made from the same facts afresh, whatever it was told before.

It has one owner and no lock, and can be made anew at any time.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

from controller.rollout.claims import Claimants, Claims
from controller.rollout.facts import (
    DeviceFacts,
    Facts,
    Known,
    Place,
    Releases,
    by_device,
    memberships,
    records_by_rollout,
)
from controller.rollout.part import Terms
from controller.rollout.rollout import (
    ASSIGNING,
    CONTROL,
    OPEN,
    Member,
    Rollout,
    StageRecord,
    Wanted,
)
from controller.rollout.roster import Roster
from controller.rollout.standing import Standing


class Ledger:
    """The facts, and what follows of them.

    Attributes:
        known: the facts.
        rosters: by id, of the open rollouts.
        unserved: by place, the rollout that has succeeded and has it, where its version is not wanted
            yet, and the open one, if any, that the place belongs to.
        unclaimed: rows that nobody claims any more, or whose device is gone.
        rows: how many rows each rollout has.
        untold: devices of which other rows are wanted than when their directive was last found to say
            what is wanted: ``is_told``.
    """

    def __init__(self) -> None:
        self.known = Known()
        self.rosters: dict[str, Roster] = {}
        self.unserved: dict[Place, tuple[Rollout, Rollout | None]] = {}
        self.unclaimed: dict[Place, Wanted] = {}
        self.rows = Counter[str]()
        self.untold: set[str] = set()
        self._claimants = Claimants.of((), {})
        self._places: dict[str, list[Place]] = {}  # of a device, in ``unserved`` and ``unclaimed``
        self._unseen: set[str] = set()
        self._unrecorded: set[str] = set()
        self._soonest: dict[str, float] = {}
        self._times: list[tuple[float, str]] = []
        self._now = -math.inf

    @classmethod
    def of(cls, facts: Facts) -> Self:
        """A ledger that was told of these facts."""
        made = cls()
        made.tell_all(facts.rollouts, facts.releases, facts.stages, facts.closed)
        members = memberships(facts.members)
        for device, known in by_device(facts).items():
            made.tell(known, members.get(device, ()))
        return made

    @property
    def again_at(self) -> float:
        """When time alone makes another standing of some device, in Unix seconds."""
        while self._times and self._soonest.get(self._times[0][1]) != self._times[0][0]:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else math.inf

    def is_behind(self, now: float) -> bool:
        """Whether the clock was set back since the ledger looked last: nothing that it holds stands."""
        return now < self._now

    def tell_all(
        self,
        rollouts: Iterable[Rollout],
        releases: Releases,
        stages: Iterable[StageRecord],
        closed: Mapping[str, tuple[Standing, ...]],
    ) -> bool:
        """What is not of single devices, as it is now; returns whether it is new."""
        known, before = self.known, self._claimants
        was = known.rollouts, known.releases, known.closed, known.records
        known.rollouts = {one.id: one for one in rollouts}
        known.releases, known.closed = releases, closed
        known.records = records_by_rollout(stages)
        if was == (known.rollouts, known.releases, known.closed, known.records):
            return False
        if _claiming(known.rollouts) != _claiming(before.rollouts) or releases != before.releases:
            self._claimants = Claimants.of(known.rollouts.values(), releases)
            self._begin_anew()
        for roster in self.rosters.values():
            roster.rollout = known.rollouts[roster.rollout.id]
        return True

    def tell(self, device: DeviceFacts, members: Iterable[Member]) -> None:
        """What is known of one device now, and all its memberships."""
        before = self.known.by_device.get(device.id)
        if before is None or before.rows != device.rows or before.is_active != device.is_active:
            self.untold.add(device.id)
        if before is not None:
            self.rows.subtract(row.rollout for row in before.rows)
        self.rows.update(row.rollout for row in device.rows)
        self.known.by_device[device.id] = device
        if self._told_members(device.id, members) or device != before:
            self._unseen.add(device.id)

    def is_told(self, device: str) -> None:
        """The device's newest directive says what is wanted of it, or nobody tells it any more."""
        self.untold.discard(device)

    def look(self, now: float) -> None:
        """Brings what follows up to ``now`` (Unix seconds)."""
        if self.is_behind(now):
            self._unseen.update(self.known.by_device)
        if now != self._now:
            self._unseen |= self._unrecorded
            self._unrecorded = set()
        self._now = now
        while self._times and self._times[0][0] <= now:
            at, device = heapq.heappop(self._times)
            if self._soonest.get(device) == at:
                del self._soonest[device]
                self._unseen.add(device)
        unseen, self._unseen = self._unseen, set()
        for device in unseen:
            self._look_at(self.known.by_device[device], now)

    def _told_members(self, device: str, members: Iterable[Member]) -> bool:
        """Notes all memberships of the device; whether any is new, another or gone."""
        known, changed = self.known.members, False
        left = {one.rollout: one for one in members}
        for rollout, of in known.items():
            if rollout not in left and of.pop(device, None) is not None:
                changed = True
        for rollout, member in left.items():
            of = known.setdefault(rollout, {})
            if of.get(device) != member:
                of[device] = member
                changed = True
        return changed

    def _begin_anew(self) -> None:
        known = self.known
        self.rosters = {
            one.id: Roster(Terms.of(one, known.release(one)))
            for one in known.rollouts.values()
            if one.state in OPEN
        }
        self.unserved, self.unclaimed, self._places = {}, {}, {}
        self._soonest, self._times = {}, []
        self._unseen.update(known.by_device)

    def _look_at(self, device: DeviceFacts, now: float) -> None:
        claims, again_at = self._claimants.claim(device), math.inf
        for id_, roster in self.rosters.items():
            rollout = roster.rollout
            owner = claims.open.get((rollout.model, rollout.slot))
            claimed = owner is not None and owner.id == id_
            member = self.known.members_of(id_).get(device.id)
            part = roster.terms.part(device, member, now, claimed=claimed)
            roster.put(device.id, part)
            roster.refuse(device.id, claims)
            if part is not None:
                again_at = min(again_at, part.again_at)
                if part.is_new:  # until it is recorded it is what it is at the time of the plan
                    self._unrecorded.add(device.id)
        self._look_beside(device, claims)
        self._look_again(device.id, again_at)

    def _look_again(self, device: str, at: float) -> None:
        if math.isinf(at):
            self._soonest.pop(device, None)
        elif self._soonest.get(device) != at:
            self._soonest[device] = at
            heapq.heappush(self._times, (at, device))
        if len(self._times) > 2 * len(self._soonest) + 64:  # most are of no use any more
            self._times = [(soon, one) for one, soon in self._soonest.items()]
            heapq.heapify(self._times)

    def _look_beside(self, device: DeviceFacts, claims: Claims) -> None:
        """Finds what is to be done for the device beside open rollouts' own steps."""
        for where in self._places.pop(device.id, ()):
            self.unserved.pop(where, None)
            self.unclaimed.pop(where, None)
        places = self._places.setdefault(device.id, [])
        for spot, rollout in claims.standing.items():
            newer, row = claims.open.get(spot), device.row(*spot)
            if newer is not None and self._has_released(newer, device.id):
                continue
            if row is None or (row.rollout, row.version) != (rollout.id, rollout.version):
                self.unserved[device.id, *spot] = (rollout, newer)
                places.append((device.id, *spot))
        for row in device.rows:
            spot = (row.model, row.slot)
            if not device.is_active or self._is_unclaimed(row, claims):
                self.unclaimed[device.id, *spot] = row
                places.append((device.id, *spot))
        if not places:
            del self._places[device.id]

    def _has_released(self, rollout: Rollout, device: str) -> bool:
        member = self.known.members_of(rollout.id).get(device)
        return member is not None and member.stage != CONTROL

    def _is_unclaimed(self, row: Wanted, claims: Claims) -> bool:
        """Whether an open rollout has put there what nobody claims."""
        spot = (row.model, row.slot)
        if row.rollout not in self.rosters or spot in claims.open or spot in claims.standing:
            return False
        release = self.known.releases.get((row.model, row.version))
        # What is not published the device itself refuses, and nothing better is known here.
        return release is not None and release.published


def _claiming(rollouts: Mapping[str, Rollout]) -> Mapping[str, tuple[bool, bool]]:
    return {one.id: (one.state in OPEN, one.state in ASSIGNING) for one in rollouts.values()}
