"""What a version must show before anyone is asked to sign it. Gates return every objection.

AllOf((MinimumRows(100), MetricAtLeast("accuracy", 0.9))).objections(candidate)
# ('80 rows of reference data, needs 100', 'accuracy is 0.88, needs at least 0.9')
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from controller.registry.metrics import LOWER_IS_BETTER


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the run over the reference showed.

    Attributes:
        rows: of the reference.
        not_finite: by output, how many of its elements are NaN or infinite.
        unsteady: by output, in how many elements a second run differed by more than the tolerance.
        parent: the version it is compared with, "digits/2"; empty if there is none.
    """

    rows: int
    not_finite: Mapping[str, int]
    unsteady: Mapping[str, int]
    latency_p99_seconds: float
    memory_bytes: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent: str = ""
    parent_metrics: Mapping[str, float] = field(default_factory=dict)


class Gate(Protocol):
    """One demand on a candidate."""

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """Why the candidate may not pass, each with its numbers; empty if it may."""
        ...


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of some gates, and every objection of each.

    Raises:
        ValueError: there are none: whoever wants that says ``UnsafeAcceptAnything``.
    """

    gates: tuple[Gate, ...]

    def __post_init__(self) -> None:
        if not self.gates:
            raise ValueError("AllOf without a gate would pass anything")

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """Those of all gates, in order."""
        return tuple(one for gate in self.gates for one in gate.objections(candidate))


@dataclass(frozen=True, slots=True)
class UnsafeAcceptAnything:
    """No demand at all."""

    def objections(self, candidate: Candidate) -> Sequence[str]:  # noqa: ARG002 - as every gate's
        """None."""
        return ()


@dataclass(frozen=True, slots=True)
class MinimumRows:
    """Enough reference data to say what is normal."""

    rows: int

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """One, if there are fewer."""
        if candidate.rows >= self.rows:
            return ()
        return (f"{candidate.rows:,} rows of reference data, needs {self.rows:,}",)


@dataclass(frozen=True, slots=True)
class FiniteOutputs:
    """No NaN and no infinity in any output over the reference."""

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """One for each output that has some."""
        return tuple(
            f"output {name!r} has {count:,} values that are NaN or infinite"
            for name, count in candidate.not_finite.items()
            if count
        )


@dataclass(frozen=True, slots=True)
class Deterministic:
    """The same inputs give the same outputs, else no device could test itself."""

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """One for each output that changed."""
        return tuple(
            f"output {name!r} differed in {count:,} values when the same rows were run twice"
            for name, count in candidate.unsteady.items()
            if count
        )


@dataclass(frozen=True, slots=True)
class MetricAtLeast:
    """A metric is known and good enough: at least ``bound``, or at most where lower is better."""

    metric: str
    bound: float

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """One, if it is worse or unknown."""
        value = candidate.metrics.get(self.metric)
        if value is None:
            return (f"{self.metric} is unknown: the reference data has no truth for it",)
        lower = self.metric in LOWER_IS_BETTER
        # So written that NaN is worse than anything.
        if value <= self.bound if lower else value >= self.bound:
            return ()
        return (f"{self.metric} is {value:.6g}, needs {_bound(self.bound, lower=lower)}",)


@dataclass(frozen=True, slots=True)
class NotWorseThanParent:
    """No metric that both have is worse than the parent's by more than ``by``.

    ``by`` is a share of the parent's value for errors (MAE, RMSE), absolute for scores. Metrics
    ``without`` are not compared.
    """

    by: float
    without: frozenset[str] = frozenset()

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """One for each metric that is."""
        found = []
        both = candidate.metrics.keys() & candidate.parent_metrics.keys()
        for name in sorted(both - self.without):
            value, before = candidate.metrics[name], candidate.parent_metrics[name]
            lower = name in LOWER_IS_BETTER
            bound = before * (1 + self.by) if lower else before - self.by
            if not (value <= bound if lower else value >= bound):
                found.append(
                    f"{name} is {value:.6g}, {candidate.parent} has {before:.6g}, "
                    f"needs {_bound(bound, lower=lower)}"
                )
        return tuple(found)


@dataclass(frozen=True, slots=True)
class LatencyWithin:
    """One row is answered in time on the controller."""

    seconds: float

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """One, if it takes longer."""
        if candidate.latency_p99_seconds <= self.seconds:
            return ()
        taken, allowed = candidate.latency_p99_seconds * 1e3, self.seconds * 1e3
        return (f"99 % of single rows take up to {taken:.3g} ms, needs {allowed:.3g} ms",)


@dataclass(frozen=True, slots=True)
class MemoryWithin:
    """The loaded model takes no more memory."""

    limit_bytes: int

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """One, if it takes more."""
        if candidate.memory_bytes <= self.limit_bytes:
            return ()
        return (f"takes {candidate.memory_bytes:,} bytes of memory, needs {self.limit_bytes:,}",)


def _bound(bound: float, *, lower: bool) -> str:
    return f"{'at most' if lower else 'at least'} {bound:.6g}"


DEFAULT_ROWS = 100
DEFAULT_WORSE_BY = 0.02


def default_gates() -> Gate:
    """What every version must pass unless its registration demands otherwise."""
    return AllOf(
        (
            MinimumRows(DEFAULT_ROWS),
            FiniteOutputs(),
            Deterministic(),
            NotWorseThanParent(DEFAULT_WORSE_BY),
        )
    )
