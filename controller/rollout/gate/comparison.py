"""Whether devices do worse than others, or than a limit: chances that it only looks so.

Devices are the unit, not requests: a device's requests share its hardware, its site and its data, so
a thousand of them from one device say little about the next device.

Rules:

1. Who is in the stage and who in the control group was drawn by lot. So whatever the values are
   like, the chance that the lot alone made the stage look so bad is found by dealing the groups
   again (R. A. Fisher 1935; E. J. G. Pitman, Significance tests which may be applied to samples from
   any populations, 1937): all deals if they are few, else many by chance, of which the real one is
   one (B. Phipson and G. K. Smyth, Permutation p-values should never be zero, 2010).
2. Two statistics are looked at. The difference of the averages over its error (B. L. Welch) sees a
   few devices that do much worse; a single one raises the error as it raises the average, and proves
   nothing. The sum of ranks (F. Wilcoxon) sees that most do a little worse, and no single device,
   however far off or however it lies, hides that.
3. Groups so small that no deal could be rare enough are compared by Student's t, with a spread that
   is never taken for smaller than a floor: three devices that agree by chance prove nothing.

Values are such that more is worse. Numbers in, chances out.
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.monitor.statistics import beta_share

Floats = NDArray[np.float64]

ALPHA: Final = 3e-4
"""A chance below which nobody believes in chance."""
MINIMUM_DEVICES: Final = 3
"""Fewer in a group never condemn."""
AGREEMENT: Final = 0.1
"""Few devices are never taken to agree better than within so much of what they show."""
DEALS: Final = 20_000
_ENOUGH: Final = 10  # devices in each group: no more are needed for a rare deal
MOST_DEVICES: Final = 300
"""Of a group; of more, so many are looked at, drawn by lot."""
_BATCH: Final = 500
_SEEN_OFTEN: Final = 12
"""So many deals that look as bad: the chance is nowhere near ``ALPHA`` (Besag and Clifford 1991)."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Values of a group's devices, and how much each weighs: from 0 to 1, by what it has answered."""

    values: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.values)

    @property
    def average(self) -> float:
        """Weighted mean; of at least one device."""
        return float(self.values @ self.weights / self.weights.sum())

    @property
    def middle(self) -> float:
        """Median; of at least one device."""
        return float(np.median(self.values))

    @property
    def error(self) -> float:
        """Standard error of ``average``; of at least two devices."""
        parts = self.weights * (self.values - self.average)
        count = len(self)
        return math.sqrt(float(parts @ parts) * count / (count - 1)) / float(self.weights.sum())

    @property
    def effective(self) -> float:
        """How many devices of equal weight would say as much (L. Kish)."""
        return float(self.weights.sum() ** 2 / (self.weights @ self.weights))

    def drawn(self, rng: np.random.Generator) -> "Measured":
        """At most ``MOST_DEVICES`` of them."""
        if len(self) <= MOST_DEVICES:
            return self
        kept = np.sort(rng.choice(len(self), MOST_DEVICES, replace=False))
        return Measured(self.values[kept], self.weights[kept])

    def moved(self, factor: float, shift: float) -> "Measured":
        """The values times ``factor``, plus ``shift``."""
        return Measured(self.values * factor + shift, self.weights)


@dataclass(frozen=True, slots=True)
class Chances:
    """How likely the lot alone makes one group look so much worse: on average, and typically."""

    average: float
    typical: float


CERTAIN: Final = Chances(1.0, 1.0)


def student_tail(t: float, freedom: float) -> float:
    """The chance that Student's t exceeds ``t``; ``freedom`` >= 1.

    >>> round(student_tail(6.3138, 1.0), 4)
    0.05
    """
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    tail = 0.5 * float(beta_share(freedom / 2, 0.5, freedom / (freedom + t * t)))
    return tail if t >= 0 else 1 - tail


def can_tell(stage: int, control: int) -> bool:
    """Whether groups of so many devices have a deal that is rare enough (rule 3)."""
    fewer, more = min(stage, control, _ENOUGH), min(max(stage, control), DEALS)
    return fewer >= MINIMUM_DEVICES and math.comb(fewer + more, fewer) * ALPHA >= 1


def worse(stage: Measured, control: Measured, floor: float, rng: np.random.Generator) -> Chances:
    """How likely the lot alone makes ``stage`` look so much worse than ``control``.

    ``floor`` is what the spread among devices is at least where rule 3 applies.
    """
    if min(len(stage), len(control)) < MINIMUM_DEVICES:
        return CERTAIN
    if not can_tell(len(stage), len(control)):
        return Chances(_student(stage, control, floor), 1.0)
    stage, control = stage.drawn(rng), control.drawn(rng)
    deals = _Deals(stage, control)
    chances = deals.all() if deals.possible <= DEALS else deals.some(rng)
    typical = chances.typical if stage.middle > control.middle else 1.0
    return Chances(chances.average, typical)


def above(group: Measured, limit: float, floor: float, *, shares: bool = False) -> Chances:
    """How likely chance makes the group's average, and its typical device, lie so far above a limit.

    Student's t with a spread of at least ``floor``, and the sign test. Of ``shares``, which are from
    0 to 1, also Hoeffding's bound, whatever their law: a third of the devices that fail altogether
    is far beyond 2 %, however much they differ from the others.
    """
    count = len(group)
    if count < MINIMUM_DEVICES:
        return CERTAIN
    error = max(group.error, floor / math.sqrt(count))
    t = _ratio(group.average - limit, error)
    over = int((group.values > limit).sum())
    signs = float(beta_share(over, count - over + 1, 0.5)) if over else 1.0
    average = student_tail(t, max(1.0, group.effective - 1))
    if shares:
        average = min(average, bounded_tail(float(group.values.mean()), limit, count))
    return Chances(average, signs)


def bounded_tail(mean: float, limit: float, count: int) -> float:
    """At most so likely ``count`` shares with true mean ``limit`` come to this ``mean``, or more.

    W. Hoeffding, Probability inequalities for sums of bounded random variables, 1963, theorem 1.

    >>> round(bounded_tail(1 / 3, 0.02, 3), 3), f"{bounded_tail(1.0, 0.02, 3):.0e}"
    (0.13, '8e-06')
    """
    if mean <= limit or limit <= 0:  # above a limit of 0 is whoever fails once: that kills nobody
        return 1.0
    distance = mean * math.log(mean / limit)
    if mean < 1:
        distance += (1 - mean) * math.log((1 - mean) / (1 - limit))
    return math.exp(-count * distance)


def _student(stage: Measured, control: Measured, floor: float) -> float:
    freedom = len(stage) + len(control) - 2
    squares = sum(float(np.square(one.values - one.average).sum()) for one in (stage, control))
    spread = max(math.sqrt(squares / freedom), floor)
    error = spread * math.sqrt(1 / stage.effective + 1 / control.effective)
    return student_tail(_ratio(stage.average - control.average, error), freedom)


def _ratio(difference: float, error: float) -> float:
    if error > 0:
        return difference / error
    return math.copysign(math.inf, difference) if difference else 0.0


class _Deals:
    """The devices of both groups, to be dealt into groups of the same sizes again."""

    def __init__(self, stage: Measured, control: Measured) -> None:
        self._size = len(stage)
        self._weights = np.concatenate([stage.weights, control.weights])
        values = np.concatenate([stage.values, control.values])
        centred = values - np.median(values)
        scale = float(np.abs(centred).max()) or 1.0
        self._values = centred / scale
        self._ranks = _ranks(values)
        self._seen = np.zeros((1, len(values)))
        self._seen[0, : self._size] = 1.0

    @property
    def possible(self) -> int:
        return math.comb(len(self._values), self._size)

    def all(self) -> Chances:
        chosen = np.array(list(combinations(range(len(self._values)), self._size)))
        deals = np.zeros((len(chosen), len(self._values)))
        np.put_along_axis(deals, chosen, 1.0, axis=1)
        average, typical = self._as_bad(deals)
        return Chances(average / len(chosen), typical / len(chosen))

    def some(self, rng: np.random.Generator) -> Chances:
        average = typical = dealt = 0
        while dealt < DEALS and min(average, typical) < _SEEN_OFTEN:
            deals = rng.permuted(np.repeat(self._seen, _BATCH, axis=0), axis=1)
            more = self._as_bad(deals)
            average, typical, dealt = average + more[0], typical + more[1], dealt + _BATCH
        return Chances((average + 1) / (dealt + 1), (typical + 1) / (dealt + 1))

    def _as_bad(self, deals: Floats) -> tuple[int, int]:
        """How many of the deals look as bad as the real one, by either statistic."""
        found, real = self._welch(deals), self._welch(self._seen)
        sums, sum_ = deals @ self._ranks, self._seen @ self._ranks
        return int((found >= real - 1e-7 * np.maximum(1, np.abs(real))).sum()), int(
            (sums >= sum_ - 1e-7).sum()
        )

    def _welch(self, deals: Floats) -> Floats:
        stage, stage_error = self._moments(deals, self._size)
        control, control_error = self._moments(1.0 - deals, len(self._values) - self._size)
        difference: Floats = stage - control
        return difference / np.sqrt(stage_error + control_error + 1e-18)

    def _moments(self, deals: Floats, count: int) -> tuple[Floats, Floats]:
        """Weighted mean of each deal's devices, and its squared error."""
        weights, values = self._weights, self._values
        squared = weights * weights
        columns = np.stack([weights, weights * values, squared, squared * values], axis=1)
        total, weighted, twice, twice_valued = (deals @ columns).T
        mean = weighted / total
        squares = deals @ (squared * values * values) - 2 * mean * twice_valued + mean**2 * twice
        return mean, np.maximum(squares, 0.0) / total**2 * (count / (count - 1))


def _ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middles: Floats = last - (counts - 1) / 2
    return middles[inverse]
