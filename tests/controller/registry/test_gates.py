from dataclasses import replace

import pytest

from controller.registry.gates import (
    AllOf,
    Candidate,
    Deterministic,
    FiniteOutputs,
    Gate,
    LatencyWithin,
    MemoryWithin,
    MetricAtLeast,
    MinimumRows,
    NotWorseThanParent,
    UnsafeAcceptAnything,
    default_gates,
)

GOOD = Candidate(
    rows=1000,
    not_finite={"z": 0},
    unsteady={"z": 0},
    latency_p99_seconds=0.001,
    memory_bytes=1000,
    metrics={"accuracy": 0.95, "mae": 1.0},
    parent="digits/2",
    parent_metrics={"accuracy": 0.96, "mae": 1.0},
)
NAN = float("nan")


def changed(metric: str, value: float) -> Candidate:
    return replace(GOOD, metrics={**GOOD.metrics, metric: value})


@pytest.mark.parametrize(
    ("gate", "candidate", "objection"),
    [
        (MinimumRows(100), replace(GOOD, rows=80), "80 rows of reference data, needs 100"),
        (
            FiniteOutputs(),
            replace(GOOD, not_finite={"z": 3}),
            "output 'z' has 3 values that are NaN or infinite",
        ),
        (
            Deterministic(),
            replace(GOOD, unsteady={"z": 3}),
            "output 'z' differed in 3 values when the same rows were run twice",
        ),
        (
            MetricAtLeast("accuracy", 0.9),
            changed("accuracy", 0.88),
            "accuracy is 0.88, needs at least 0.9",
        ),
        (
            MetricAtLeast("accuracy", 0.9),
            changed("accuracy", NAN),
            "accuracy is nan, needs at least 0.9",
        ),
        (MetricAtLeast("mae", 2.0), changed("mae", 2.5), "mae is 2.5, needs at most 2"),
        (
            MetricAtLeast("rmse", 2.0),
            GOOD,
            "rmse is unknown: the reference data has no truth for it",
        ),
        (
            NotWorseThanParent(0.02),
            changed("accuracy", 0.9),
            "accuracy is 0.9, digits/2 has 0.96, needs at least 0.94",
        ),
        (
            NotWorseThanParent(0.02),
            changed("mae", 1.1),
            "mae is 1.1, digits/2 has 1, needs at most 1.02",
        ),
        (
            LatencyWithin(0.01),
            replace(GOOD, latency_p99_seconds=0.02),
            "99 % of single rows take up to 20 ms, needs 10 ms",
        ),
        (
            MemoryWithin(2000),
            replace(GOOD, memory_bytes=3000),
            "takes 3,000 bytes of memory, needs 2,000",
        ),
    ],
)
def test_a_gate_objects_with_its_numbers_and_passes_what_is_good(
    gate: Gate, candidate: Candidate, objection: str
) -> None:
    passes = () if objection.startswith("rmse") else gate.objections(GOOD)

    assert tuple(gate.objections(candidate)) == (objection,)
    assert tuple(passes) == ()


def test_every_objection_of_every_gate_is_told() -> None:
    bad = replace(GOOD, rows=1, not_finite={"a": 1, "b": 2}, unsteady={"a": 1})

    found = default_gates().objections(bad)

    assert len(found) == 4
    assert [one.split()[0] for one in found] == ["1", "output", "output", "output"]


def test_no_gates_at_all_must_be_asked_for_by_name() -> None:
    with pytest.raises(ValueError, match="would pass anything"):
        AllOf(())

    assert UnsafeAcceptAnything().objections(replace(GOOD, rows=0)) == ()


def test_the_first_version_of_a_model_has_no_parent_to_be_worse_than() -> None:
    first = replace(GOOD, parent="", parent_metrics={})

    assert default_gates().objections(first) == ()
