"""How sure it is that an expression fails: devices are left out in turn (J. W. Tukey 1958).

Rules:

1. A comparison that holds, holds. One that does not, fails only if that stands out of how much its
   sides change when devices are left out: Student's t, at ``comparison.ALPHA``. Else it is
   undecided.
2. Counts of devices and inferences only grow: a comparison of nothing else is undecided if it
   would hold with many more of them.
3. A comparison of what fewer than ``MINIMUM_DEVICES`` devices of a group show is undecided.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.rollout.gate.comparison import (
    AGREEMENT,
    ALPHA,
    MINIMUM_DEVICES,
    Floats,
    student_tail,
)
from controller.rollout.gate.evidence import Evidence, Sample
from controller.rollout.gate.expression import (
    And,
    Arithmetic,
    Compare,
    Not,
    Or,
    Truth,
    all_of,
    any_of,
    compare,
    holds,
    names,
    straight,
    value,
)
from controller.rollout.gate.measure import weight
from controller.rollout.policy import Metric

_BLOCKS: Final = 200
"""Devices of a larger group are left out several at a time."""
_MANY: Final = 1_000


@dataclass(slots=True)
class _Group:
    """What one group comes to, and what it comes to without each of its blocks of devices."""

    whole: dict[str, float]
    without: list[dict[str, float]]
    devices: dict[str, int] = field(default_factory=dict)


class Certainty:
    """What evidence says of expressions."""

    def __init__(self, evidence: Evidence, least: int, rng: np.random.Generator) -> None:
        self._groups = {
            "stage": _group("stage", evidence.stage, least, rng),
            "control": _group("control", evidence.control, least, rng),
        }
        self._values = self._groups["stage"].whole | self._groups["control"].whole
        self._alone = not evidence.control

    def of(self, truth: Truth) -> tuple[bool | None, str]:
        """Whether it holds; None while that is not sure. And the numbers, for a person."""
        held = self._holds(straight(truth))
        used = sorted(names(truth))
        missing = [name for name in used if name not in self._values]
        if held is None and missing:
            if self._alone and any(name.startswith("control.") for name in missing):
                return None, "nobody to compare with has told anything"
            return None, f"no device reports {', '.join(missing)}"
        said = {True: "holds", False: "does not hold", None: "is not decided"}[held]
        seen = ", ".join(
            f"{name} is {self._values[name]:.4g}" for name in used if name in self._values
        )
        return held, f"{truth} {said}: {seen}" if seen else f"{truth} {said}"

    def _holds(self, truth: Truth) -> bool | None:
        match truth:
            case Compare():
                return self._compared(truth)
            case Not(inner):  # ``straight`` leaves none
                return self._holds(straight(inner, turned=True))
            case And(parts):
                return all_of(tuple(self._holds(part) for part in parts))
            case Or(parts):
                return any_of(tuple(self._holds(part) for part in parts))

    def _compared(self, truth: Compare) -> bool | None:
        difference = Arithmetic("-", truth.left, truth.right)
        found = value(difference, self._values)
        if found is None:
            return None
        held = compare(truth.sign, found)
        counts = [
            group.devices[name]
            for group in self._groups.values()
            for name in names(truth)
            if name in group.devices
        ]
        if not counts:
            more = {name: _MANY * self._values[name] for name in names(truth)}
            return held or (None if holds(truth, more) else False)
        if min(counts) < MINIMUM_DEVICES:
            return None
        return held or (False if self._surely(truth, abs(found), min(counts)) else None)

    def _surely(self, truth: Compare, found: float, count: int) -> bool:
        error = self._error(truth)
        if error is None:
            return False
        sides = [abs(value(side, self._values) or 0.0) for side in (truth.left, truth.right)]
        error = max(error, AGREEMENT * max(sides) / math.sqrt(count))
        t = found / error if error else math.inf
        return student_tail(t, min(count, _BLOCKS) - 1) <= ALPHA

    def _error(self, truth: Compare) -> float | None:
        """Standard error of the difference of the sides; None where leaving out leaves nothing."""
        difference, squares = Arithmetic("-", truth.left, truth.right), 0.0
        for group in self._groups.values():
            if not names(truth) & set(group.devices):
                continue
            found = [value(difference, self._values | without) for without in group.without]
            known = np.array([one for one in found if one is not None])
            if len(known) < len(found):
                return None
            squares += float(known.var()) * (len(known) - 1)
        return math.sqrt(squares)


def _group(name: str, samples: Sequence[Sample], least: int, rng: np.random.Generator) -> _Group:
    blocks = rng.permutation(len(samples)) % _BLOCKS
    found = _Group(
        whole={
            f"{name}.devices": float(len(samples)),
            f"{name}.inferences": float(sum(one.inferences for one in samples)),
        },
        without=[{} for _ in range(min(len(samples), _BLOCKS))],
    )
    for metric in Metric:
        weights = np.array([weight(one, metric, least) for one in samples], np.float64)
        if weights.any():
            values = [
                one.values[metric] if w else 0.0 for one, w in zip(samples, weights, strict=True)
            ]
            _add(
                found, f"{name}.{metric.value.replace('-', '_')}", blocks, np.array(values), weights
            )
    return found


def _add(
    group: _Group, name: str, blocks: NDArray[np.int64], values: Floats, weights: Floats
) -> None:
    count = len(group.without)
    total, sum_ = weights.sum(), weights @ values
    group.whole[name] = float(sum_ / total)
    group.devices[name] = int(np.count_nonzero(weights))
    totals = total - np.bincount(blocks, weights, count)
    sums = sum_ - np.bincount(blocks, weights * values, count)
    for without, left, most in zip(group.without, totals, sums, strict=True):
        without[name] = float(most / left) if left > 1e-9 else math.nan
