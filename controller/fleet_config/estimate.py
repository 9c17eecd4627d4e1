"""How long a rollout takes if nothing goes wrong, as the planner would carry it out.

Rules:

1. Every device is online and answers, none fails, no gate is breached, and whoever must approve has.
2. A device fetches all of a version's files at the speed of ``Assumed``, tests them, waits for its
   maintenance window in its own time zone, switches, and is on probation; then it soaks.
3. Devices are released at the policy's pace, in the order in which they are drawn; a site's share is
   taken until its device waits for a window or is done.
4. A stage passes when nobody in it installs, soaks or waits for a window, and what it has shown is
   proof enough; who waits for longer than the deadline is waited for no more. A stage that can't prove
   enough grows, and soaks again.
5. Gates that too few devices let tell nothing are waited for as long as the stage soaks, but not
   those that only compare and have nobody to compare with.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from agent.install.windows import opens
from controller.rollout.conditions import Conditions, signed
from controller.rollout.gate.comparison import can_tell
from controller.rollout.gate.judgement import LIMIT_DEVICES
from controller.rollout.policy import Gate, Pace, Policy, Proof, Stage
from controller.rollout.release import rate
from controller.rollout.staging import CONTROL_STAGE
from controller.rollout.verdict import GROWTH

MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Assumed:
    """What nobody knows before.

    Attributes:
        bytes_per_second: of a device's link.
        test_seconds: checking and testing a version before it is switched to.
        probation_seconds: after that.
    """

    bytes_per_second: float = 1_000_000.0
    test_seconds: float = 60.0
    probation_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that the version will come to.

    Attributes:
        length: bytes that it has to fetch; 0 if it runs the version already.
        stages: numbers of the stages whose selector it matches.
        compares: it runs another version of the model, so gates can compare with it.
    """

    device: str
    site: str
    zone: str
    length: int
    stages: frozenset[int] = frozenset()
    compares: bool = False


@dataclass(frozen=True, slots=True)
class StageTimes:
    """One stage. Times are Unix seconds.

    Attributes:
        devices: that it releases, in order.
        planned: how many it would have without growing; fewer than ``devices`` if it has to grow.
        approval: somebody must approve before it begins.
    """

    name: str
    devices: tuple[str, ...]
    planned: int
    begins_at: float
    ends_at: float
    approval: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """When what happens.

    Attributes:
        ends_at: when the last device has soaked, Unix seconds.
    """

    stages: tuple[StageTimes, ...]
    ends_at: float


def estimate(
    policy: Policy, drawn: Sequence[Candidate], held: int, now: float, assumed: Assumed
) -> Estimate:
    """When each stage begins and ends; the last ``held`` of those ``drawn`` are the control group."""
    return _Course(policy, drawn, held, now, assumed).run()


def devices_to_prove(proof: Proof) -> int:
    """How many devices without a failure prove enough (the bound of Clopper and Pearson for none)."""
    if proof.failing_below >= 1:
        return proof.minimum_devices
    if proof.failing_below <= 0:
        return 10**9
    alone = math.log(1 - proof.confidence) / math.log(1 - proof.failing_below)
    return max(proof.minimum_devices, math.floor(alone) + 1)


@dataclass(frozen=True, slots=True)
class _Part:
    """One device's part: it is busy until ``fetched``, and again from ``switched`` until ``soaked``."""

    released: float
    fetched: float
    switched: float
    proven: float
    soaked: float


@dataclass(slots=True)
class _Traffic:
    """What limits who is released next."""

    pace: Pace
    recent: deque[float] = field(default_factory=deque)
    busy: Counter[str] = field(default_factory=Counter)
    ending: list[tuple[float, str]] = field(default_factory=list)  # heap: when a site has room
    proving: list[float] = field(default_factory=list)  # heap: when a device has succeeded
    succeeded: int = 0

    def pass_to(self, now: float) -> list[str]:
        """Counts what has happened by ``now``; returns the sites that have room again."""
        while self.proving and self.proving[0] <= now:
            heapq.heappop(self.proving)
            self.succeeded += 1
        freed = []
        while self.ending and self.ending[0][0] <= now:
            site = heapq.heappop(self.ending)[1]
            self.busy[site] -= 1
            freed.append(site)
        return freed

    def allowed(self, now: float) -> tuple[float, float]:
        """How many more may be released, and when more may be."""
        limit = rate(self.pace, self.succeeded)
        if math.isinf(limit):
            return math.inf, now
        span = max(MINUTE, MINUTE / limit)
        while self.recent and self.recent[0] + span <= now:
            self.recent.popleft()
        most = max(1, math.floor(limit * span / MINUTE))
        return most - len(self.recent), (self.recent[0] + span if self.recent else now)

    def full(self, site: str) -> bool:
        """Whether the site has no room."""
        return bool(site) and bool(self.pace.per_site) and self.busy[site] >= self.pace.per_site


class _Course:
    """The rollout, from its first device to its last."""

    def __init__(
        self,
        policy: Policy,
        drawn: Sequence[Candidate],
        held: int,
        now: float,
        assumed: Assumed,
    ) -> None:
        self._policy = policy
        self._drawn = drawn
        self._free = drawn[: len(drawn) - held]
        self._held = drawn[len(drawn) - held :]
        self._at = now
        self._assumed = assumed
        self._opening = openings(policy.conditions)
        self._traffic = _Traffic(policy.pace)
        self._parts: dict[str, _Part] = {}
        self._needed = devices_to_prove(policy.proof)

    def run(self) -> Estimate:
        """All stages, one after the other."""
        stages = [self._stage(number, one) for number, one in enumerate(self._policy.stages)]
        if self._held:
            last = self._policy.stages[-1]
            begins = self._at
            self._release(self._held, last.soak_seconds)
            names = tuple(one.device for one in self._held)
            self._at = self._settle(names, last)
            ends = self._judged(names, last, begins)
            stages.append(StageTimes(CONTROL_STAGE, names, len(names), begins, ends))
            self._at = ends
        soaked = max((one.soaked for one in self._parts.values()), default=self._at)
        return Estimate(tuple(stages), max(self._at, soaked))

    def _stage(self, number: int, stage: Stage) -> StageTimes:
        begins = self._at = max(self._at, stage.not_before)
        size = self._size(number)
        most = size
        if not stage.selector and number + 1 < len(self._policy.stages):
            most = max(size, self._size(number + 1))
        names: list[str] = []
        planned = None
        while True:
            due = self._due(number, size)
            names += [one.device for one in due]
            planned = len(names) if planned is None else planned
            self._release(due, stage.soak_seconds)
            grows = size < most
            self._at = self._settle(names, stage)
            if not grows or self._decided(self._at) >= self._needed:
                break
            size = min(most, max(size + 1, int(size * GROWTH)))
        self._at = self._judged(names, stage, begins)
        return StageTimes(stage.name, tuple(names), planned, begins, self._at, stage.approval)

    def _size(self, number: int) -> int:
        stage, total, free = self._policy.stages[number], len(self._drawn), len(self._free)
        if stage.percent is not None:
            return max(1, min(free, math.ceil(total * stage.percent / 100)))
        if stage.count is not None:
            return max(1, min(free, stage.count))
        meant = {one.device for one in self._free if number in one.stages}
        return len(meant | self._parts.keys())

    def _due(self, number: int, size: int) -> list[Candidate]:
        waiting = [one for one in self._free if one.device not in self._parts]
        stage = self._policy.stages[number]
        if stage.selector:
            return [one for one in waiting if number in one.stages]
        if stage.percent == 100.0:
            return waiting
        return waiting[: max(0, size - len(self._parts))]

    def _release(self, due: Sequence[Candidate], soak: float) -> None:
        """Lets them go as pace and sites allow; the time is then that of the last one."""
        queues: dict[str, deque[tuple[int, Candidate]]] = {}
        for place, one in enumerate(due):
            queues.setdefault(one.site, deque()).append((place, one))
        traffic, now, left = self._traffic, self._at, len(due)
        traffic.pass_to(now)
        ready = [(queue[0][0], site) for site, queue in queues.items() if not traffic.full(site)]
        heapq.heapify(ready)
        while left:
            allowed, later = traffic.allowed(now)
            while ready and allowed > 0:
                site = heapq.heappop(ready)[1]
                self._begin(queues[site].popleft()[1], now, soak)
                allowed, left = allowed - 1, left - 1
                if queues[site] and not traffic.full(site):
                    heapq.heappush(ready, (queues[site][0][0], site))
            if not left:
                break
            now = later if ready else traffic.ending[0][0]
            for site in traffic.pass_to(now):
                queue = queues.get(site)
                if queue and all(site != other for _, other in ready):
                    heapq.heappush(ready, (queue[0][0], site))
        self._at = now

    def _begin(self, one: Candidate, now: float, soak: float) -> None:
        traffic, assumed = self._traffic, self._assumed
        fetched = switched = proven = now
        if one.length:
            fetched = now + one.length / assumed.bytes_per_second + assumed.test_seconds
            switched = self._opening(one.zone, fetched)
            proven = switched + assumed.probation_seconds
        self._parts[one.device] = _Part(now, fetched, switched, proven, proven + soak)
        traffic.recent.append(now)
        heapq.heappush(traffic.proving, proven)
        if one.site and traffic.pace.per_site:
            traffic.busy[one.site] += 1
            ends = fetched if switched > fetched else proven
            heapq.heappush(traffic.ending, (ends, one.site))

    def _decided(self, now: float) -> int:
        return sum(one.soaked <= now for one in self._parts.values())

    def _judged(self, names: Sequence[str], stage: Stage, begins: float) -> float:
        """When the gates of a stage that has settled have told what they can (rule 5)."""
        others = sum(one.compares for one in self._drawn if one.device not in self._parts)
        gates = (*self._policy.gates, *stage.gates)
        if all(_tells(one, len(self._parts), others) for one in gates):
            return self._at
        proven = (self._parts[name].proven for name in names)
        settled = max((at + stage.soak_seconds for at in proven if at <= self._at), default=begins)
        return max(self._at, settled + stage.soak_seconds)

    def _settle(self, names: Sequence[str], stage: Stage) -> float:
        """When nobody in the stage is busy and nothing more is to be waited for (rule 4)."""
        parts = [self._parts[name] for name in names]
        soaked = sorted(one.soaked for one in self._parts.values())
        for idle, busy_again in _pauses(parts, self._at):
            held = [one.released for one in parts if one.fetched <= idle < one.switched]
            patience = max(held, default=-math.inf) + stage.deadline_seconds
            decided = any(at <= idle for at in soaked)
            if not held or (decided and patience < busy_again):
                return max(idle, patience)
        return self._at


def _tells(gate: Gate, devices: int, others: int) -> bool:
    """Whether the gate is decided by so many devices, or there is nobody to wait for."""
    if gate.limit is None:
        return not others or can_tell(devices, others)
    compares = gate.margin is not None or gate.margin_ratio is not None
    return devices >= LIMIT_DEVICES and (not compares or can_tell(devices, others))


def _pauses(parts: Sequence[_Part], begins: float) -> Iterator[tuple[float, float]]:
    """From when until when nobody is busy; the last one never ends."""
    spans = sorted(
        span
        for one in parts
        for span in ((one.released, one.fetched), (one.switched, one.soaked))
        if span[1] > begins
    )
    until = begins
    for start, end in spans:
        if start > until:
            yield until, start
        until = max(until, end)
    yield until, math.inf


def openings(conditions: Conditions) -> Callable[[str, float], float]:
    """When a device of a zone may switch that is ready at a time."""
    windows = signed(conditions).windows
    known: dict[tuple[str, int], float] = {}

    def opening(zone: str, at: float) -> float:
        if not windows:
            return at
        # Windows begin and end with a minute, so one answer holds for all of it.
        key = zone, int(at // MINUTE)
        if key not in known:
            begins = opens(windows, datetime.fromtimestamp(key[1] * MINUTE, ZoneInfo(zone)))
            known[key] = 0.0 if begins is None else begins.timestamp()
        return max(at, known[key])

    return opening


def sites_of(drawn: Sequence[Candidate]) -> Mapping[str, tuple[int, int]]:
    """By site: devices that have something to fetch, and their bytes."""
    found: dict[str, tuple[int, int]] = {}
    for one in drawn:
        devices, length = found.get(one.site, (0, 0))
        found[one.site] = (devices + (one.length > 0), length + one.length)
    return dict(sorted(found.items()))
