"""What a stage's gates say of it: evidence in, one verdict a gate out, each with its numbers.

Rules:

1. A gate is breached only when chance is no explanation: ``comparison.ALPHA``, for the average or
   for the typical device. One device of three never breaches one.
2. It passes where there are devices enough to tell, and on average they keep the bound. All else is
   undecided: too few devices, or an average beyond the bound that may be chance.
3. A margin compares with the control group; without one it is undecided. Of a margin and a ratio the
   wider holds. A limit needs nobody to compare with.
4. The same evidence and seed give the same verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from controller.rollout.gate.comparison import (
    ALPHA,
    Measured,
    above,
    can_tell,
    worse,
)
from controller.rollout.gate.evidence import Evidence, Sample
from controller.rollout.gate.expression_parser import parse
from controller.rollout.gate.jackknife import Certainty
from controller.rollout.gate.measure import (
    MINIMUM_INFERENCES,
    agreement,
    measured,
    noise,
    shown,
    told,
)
from controller.rollout.policy import HIGHER_IS_BETTER, Expression, Gate, Metric

LIMIT_DEVICES: Final = 5
"""Fewer below a limit do not prove that it is kept."""


class GateVerdict(StrEnum):
    """Three-valued: too little is not enough."""

    PASSED = "passed"
    BREACHED = "breached"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate says.

    Attributes:
        name: its metric, or the expression's name.
        stage, control: the averages that were compared; None where there is none.
        reason: one sentence with the numbers.
    """

    name: str
    verdict: GateVerdict
    stage: float | None
    control: float | None
    reason: str


def judge(
    gates: Sequence[Gate],
    expressions: Sequence[Expression],
    evidence: Evidence,
    seed: int,
    minimum_inferences: int = MINIMUM_INFERENCES,
) -> tuple[GateResult, ...]:
    """The verdicts of ``gates``, then those of ``expressions``, each in their order.

    Devices that have answered fewer than ``minimum_inferences`` count in no average. Values that
    can't be, such as NaN or a share of 3, are as if they were not told.
    """
    results = [
        _Case(gate, evidence, minimum_inferences, _chance(seed, number)).result()
        for number, gate in enumerate(gates)
    ]
    if expressions:
        certainty = Certainty(evidence, minimum_inferences, _chance(seed, len(gates)))
        results += [_decided(one, certainty) for one in expressions]
    return tuple(results)


def _chance(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed % 2**63, number]))


def _decided(expression: Expression, certainty: Certainty) -> GateResult:
    held, why = certainty.of(parse(expression.holds))
    verdict = {
        True: GateVerdict.PASSED,
        False: GateVerdict.BREACHED,
        None: GateVerdict.UNDECIDED,
    }[held]
    return GateResult(expression.name, verdict, None, None, f"{expression.name}: {why}")


class _Case:
    """One gate and what there is to judge it by; values as people read them."""

    def __init__(
        self, gate: Gate, evidence: Evidence, least: int, rng: np.random.Generator
    ) -> None:
        self._gate, self._evidence, self._least, self._rng = gate, evidence, least, rng
        self._metric = gate.metric
        self._shares = gate.metric is not Metric.LATENCY_P99
        self._sign = -1.0 if gate.metric in HIGHER_IS_BETTER else 1.0
        self._bound = "at least" if gate.metric in HIGHER_IS_BETTER else "at most"
        self._stage = measured(evidence.stage, gate.metric, least)
        self._control = measured(evidence.control, gate.metric, least)

    def result(self) -> GateResult:
        """The worst that margin and limit say."""
        if not len(self._stage):
            return self._undecided(self._nobody(self._evidence.stage, "no device"))
        found = []
        if self._gate.limit is not None:
            found.append(self._limited(self._gate.limit))
        if self._gate.margin is not None or self._gate.margin_ratio is not None:
            found.append(self._compared())
        order = (GateVerdict.BREACHED, GateVerdict.UNDECIDED, GateVerdict.PASSED)
        return min(found, key=lambda one: order.index(one.verdict))

    def _limited(self, limit: float) -> GateResult:
        stage, count = self._stage, len(self._stage)
        floor = max(
            agreement(self._metric, limit),
            noise(self._metric, limit, self._evidence.stage, self._least),
        )
        chances = above(*self._badness(limit), floor, shares=self._shares)
        bound = f"{self._shown(limit)} {self._bound}"
        seen = f"{self._shown(stage.average)} on {_devices(count)}; {bound}"
        if chances.average <= ALPHA:
            return self._result(GateVerdict.BREACHED, seen)
        if chances.typical <= ALPHA:
            middle = f"{self._shown(stage.middle)} in the middle of {_devices(count)}; {bound}"
            return self._result(GateVerdict.BREACHED, middle)
        if count < LIMIT_DEVICES:
            return self._undecided(f"{seen}: too few devices to be sure")
        return self._unless(self._sign * (stage.average - limit) > 0, seen)

    def _badness(self, limit: float) -> tuple[Measured, float]:
        """The stage's values and the limit, such that more is worse; of shares, how much is lacking."""
        lacking = 1.0 if self._shares and self._sign < 0 else 0.0
        return self._stage.moved(self._sign, lacking), self._sign * limit + lacking

    def _compared(self) -> GateResult:
        stage, control = self._stage, self._control
        if not self._evidence.control:
            return self._undecided("nobody to compare with has told anything")
        if not len(control):
            who = "no device of the control group"
            return self._undecided(self._nobody(self._evidence.control, who))
        allowed = self._allowed(control.average)
        chances = [
            worse(stage.moved(self._sign, 0.0), one, self._floor(), self._rng)
            for one in self._shifted()
        ]
        if max(one.average for one in chances) <= ALPHA:
            return self._result(GateVerdict.BREACHED, self._beside(stage.average, control.average))
        if max(one.typical for one in chances) <= ALPHA:
            return self._result(
                GateVerdict.BREACHED, self._beside(stage.middle, control.middle, "in the middle of")
            )
        seen = self._beside(stage.average, control.average)
        if not can_tell(len(stage), len(control)):
            return self._undecided(f"{seen}: too few devices to be sure")
        return self._unless(self._sign * (stage.average - allowed) > 0, seen)

    def _shifted(self) -> list[Measured]:
        """The control group as bad as it may be: by the margin, and by the ratio."""
        gate, found = self._gate, []
        if gate.margin is not None:
            found.append(self._control.moved(self._sign, gate.margin))
        if gate.margin_ratio is not None:
            worst = 1 + self._sign * gate.margin_ratio
            found.append(self._control.moved(self._sign * worst, 0.0))
        return found

    def _allowed(self, control: float) -> float:
        """What the stage may come to where the control group comes to ``control``."""
        margin = max(self._gate.margin or 0.0, (self._gate.margin_ratio or 0.0) * control)
        return control + self._sign * margin

    def _floor(self) -> float:
        stage, control = self._stage.average, self._control.average
        return max(
            abs(self._allowed(control) - control) / 2,
            agreement(self._metric, stage),
            agreement(self._metric, control),
            noise(self._metric, (stage + control) / 2, self._evidence.stage, self._least),
        )

    def _beside(self, stage: float, control: float, of: str = "on") -> str:
        return (
            f"{self._shown(stage)} {of} {_devices(len(self._stage))}, "
            f"{self._shown(control)} {of} {len(self._control)} of the control group; "
            f"{self._shown(max(self._allowed(control), 0.0))} {self._bound}"
        )

    def _nobody(self, samples: Sequence[Sample], who: str) -> str:
        if not told(samples, self._metric):
            return f"{who} reports it"
        return f"{who} has answered {self._least} inferences"

    def _unless(self, beyond: bool, seen: str) -> GateResult:
        """Passed, unless the average is beyond the bound, if only by what may be chance."""
        if beyond:
            return self._undecided(f"{seen}: that may be chance")
        return self._result(GateVerdict.PASSED, seen)

    def _undecided(self, why: str) -> GateResult:
        return self._result(GateVerdict.UNDECIDED, why)

    def _result(self, verdict: GateVerdict, seen: str) -> GateResult:
        return GateResult(
            name=self._metric.value,
            verdict=verdict,
            stage=self._stage.average if len(self._stage) else None,
            control=self._control.average if len(self._control) else None,
            reason=f"{self._metric.value}: {seen}",
        )

    def _shown(self, value: float) -> str:
        return shown(self._metric, value)


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"
