"""Verdicts of gates: every way each can fall, with its sentence, and what no device can do to them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.rollout.gate.evidence import Evidence, Sample
from controller.rollout.gate.judgement import GateResult, GateVerdict, judge
from controller.rollout.policy import GATES, Expression, Gate, Metric

PASSED, BREACHED, UNDECIDED = GateVerdict.PASSED, GateVerdict.BREACHED, GateVerdict.UNDECIDED
ERRORS = Gate(metric=Metric.ERROR_RATE, margin=0.01)
SLOWER = Gate(metric=Metric.LATENCY_P99, margin_ratio=0.5)


def devices(
    metric: Metric, values: Sequence[float], prefix: str = "s", inferences: int = 1_000
) -> tuple[Sample, ...]:
    return tuple(
        Sample(f"{prefix}-{at}", inferences, {metric: value}) for at, value in enumerate(values)
    )


def evidence(metric: Metric, stage: Sequence[float], control: Sequence[float]) -> Evidence:
    return Evidence(devices(metric, stage), devices(metric, control, "c"))


def one(gate: Gate, seen: Evidence, seed: int = 1) -> GateResult:
    (result,) = judge((gate,), (), seen, seed)
    return result


GOOD, BAD = [0.001, 0.002, 0.003, 0.0] * 5, [0.05, 0.06, 0.04, 0.07] * 5


@pytest.mark.parametrize(
    ("gate", "stage", "control", "verdict", "reason"),
    [
        (
            ERRORS, GOOD, GOOD[:18], PASSED,
            "error-rate: 0.15 % on 20 devices, 0.15 % on 18 of the control group; 1.15 % at most",
        ),
        (
            ERRORS, BAD, GOOD, BREACHED,
            "error-rate: 5.5 % on 20 devices, 0.15 % on 20 of the control group; 1.15 % at most",
        ),
        (
            SLOWER, [0.048, 0.05, 0.046, 0.048] * 5, [0.031, 0.03, 0.032, 0.031] * 5, UNDECIDED,
            ("latency-p99: 48 ms on 20 devices, 31 ms on 20 of the control group; 46.5 ms at most: "
            "that may be chance"),
        ),
        (
            SLOWER, [1.2, 1.3, 1.1, 1.2] * 5, [0.031, 0.03, 0.032, 0.031] * 5, BREACHED,
            "latency-p99: 1.2 s on 20 devices, 31 ms on 20 of the control group; 46.5 ms at most",
        ),
        (
            Gate(metric=Metric.LATENCY_P99, margin=0.1, margin_ratio=0.5),
            [0.1] * 10 + [0.11] * 10, [0.03, 0.04] * 10, PASSED,
            "latency-p99: 105 ms on 20 devices, 35 ms on 20 of the control group; 135 ms at most",
        ),
        (
            Gate(metric=Metric.CONFIDENCE, margin=0.05), [0.7, 0.72] * 10, [0.9, 0.92] * 10, BREACHED,
            "confidence: 0.710 on 20 devices, 0.910 on 20 of the control group; 0.860 at least",
        ),
        (
            Gate(metric=Metric.CONFIDENCE, margin=0.05), [0.99] * 20, [0.9, 0.92] * 10, PASSED,
            "confidence: 0.990 on 20 devices, 0.910 on 20 of the control group; 0.860 at least",
        ),
        (
            Gate(metric=Metric.ESTIMATED_ACCURACY, margin_ratio=0.1),
            [0.7, 0.72] * 10, [0.9, 0.92] * 10, BREACHED,
            ("estimated-accuracy: 0.710 on 20 devices, 0.910 on 20 of the control group; "
            "0.819 at least"),
        ),
        (
            Gate(metric=Metric.ERROR_RATE, limit=0.02), GOOD, [], PASSED,
            "error-rate: 0.15 % on 20 devices; 2 % at most",
        ),
        (
            Gate(metric=Metric.ERROR_RATE, limit=0.02), BAD, [], BREACHED,
            "error-rate: 5.5 % on 20 devices; 2 % at most",
        ),
        (
            Gate(metric=Metric.ERROR_RATE, limit=0.02), [0.01, 0.04] * 10, [], UNDECIDED,
            "error-rate: 2.5 % on 20 devices; 2 % at most: that may be chance",
        ),
        (
            Gate(metric=Metric.ERROR_RATE, limit=0.02), [0.01] * 4, [], UNDECIDED,
            "error-rate: 1 % on 4 devices; 2 % at most: too few devices to be sure",
        ),
        (
            Gate(metric=Metric.ERROR_RATE, limit=0.02), [0.95] * 6 + [0.001] * 14, [], BREACHED,
            "error-rate: 28.6 % on 20 devices; 2 % at most",
        ),
        (
            Gate(metric=Metric.CONFIDENCE, limit=0.8), [0.5, 0.55] * 5, [], BREACHED,
            "confidence: 0.525 on 10 devices; 0.800 at least",
        ),
        (
            Gate(metric=Metric.ERROR_RATE, margin=0.01, limit=0.5), BAD, GOOD, BREACHED,
            "error-rate: 5.5 % on 20 devices, 0.15 % on 20 of the control group; 1.15 % at most",
        ),
        (
            Gate(metric=Metric.ERROR_RATE, margin=0.5, limit=0.01), BAD, GOOD, BREACHED,
            "error-rate: 5.5 % on 20 devices; 1 % at most",
        ),
        (ERRORS, GOOD, [], UNDECIDED, "error-rate: nobody to compare with has told anything"),
        (ERRORS, [], GOOD, UNDECIDED, "error-rate: no device reports it"),
        (
            ERRORS, [0.5, 0.0, 0.0], [0.0] * 3, UNDECIDED,
            ("error-rate: 16.7 % on 3 devices, 0 % on 3 of the control group; 1 % at most: "
            "too few devices to be sure"),
        ),
        (
            ERRORS, [0.0], GOOD, UNDECIDED,
            ("error-rate: 0 % on 1 device, 0.15 % on 20 of the control group; 1.15 % at most: "
            "too few devices to be sure"),
        ),
    ],
)  # fmt: skip
def test_each_verdict_bears_its_numbers(
    gate: Gate, stage: Sequence[float], control: Sequence[float], verdict: GateVerdict, reason: str
) -> None:
    result = one(gate, evidence(gate.metric, stage, control))

    assert (result.verdict, result.reason) == (verdict, reason)
    assert result.name == gate.metric.value


def test_most_devices_a_little_worse_and_one_that_hides_it() -> None:
    stage = [0.05, 0.051, 0.049, 0.052] * 5
    result = one(ERRORS, evidence(Metric.ERROR_RATE, [*stage, 0.0], [*[0.0] * 19, 1.0]))

    assert result.verdict is BREACHED
    assert result.reason == (
        "error-rate: 5 % in the middle of 21 devices, 0 % in the middle of 20 of the control group; "
        "1 % at most"
    )
    liar = one(
        Gate(metric=Metric.LATENCY_P99, limit=0.03),
        Evidence(devices(Metric.LATENCY_P99, [*[0.04, 0.05] * 10, 3000.0])),
    )
    assert liar.verdict is BREACHED
    assert liar.reason == "latency-p99: 50 ms in the middle of 21 devices; 30 ms at most"


def test_who_reports_nothing_or_answered_little_says_nothing() -> None:
    mute = devices(Metric.DRIFT, [0.0] * 20, "c")
    new = devices(Metric.ERROR_RATE, [1.0] * 20, inferences=29)
    stage = devices(Metric.ERROR_RATE, GOOD)

    assert one(ERRORS, Evidence(stage, mute)).reason == (
        "error-rate: no device of the control group reports it"
    )
    assert one(ERRORS, Evidence(new, stage)).reason == (
        "error-rate: no device has answered 30 inferences"
    )
    assert one(ERRORS, Evidence(stage, new)).reason == (
        "error-rate: no device of the control group has answered 30 inferences"
    )
    assert one(ERRORS, Evidence((*stage, *new), stage)).verdict is PASSED


@pytest.mark.parametrize("told", [float("nan"), float("inf"), -1.0, 1.5, 1e308])
def test_a_value_that_can_not_be_counts_for_nothing(told: float) -> None:
    honest = evidence(Metric.ERROR_RATE, GOOD, GOOD)
    hostile = devices(Metric.ERROR_RATE, [told], "x", 10**15)
    lying = Evidence(honest.stage + hostile, honest.control + hostile)
    limit = Gate(metric=Metric.ERROR_RATE, limit=0.01)
    mine = Expression(name="mine", holds="stage.error_rate <= control.error_rate + 0.01")

    for gate in (ERRORS, limit):
        assert one(gate, lying) == one(gate, honest)
    (result,) = judge((), (mine,), lying, 1)
    assert result.verdict is PASSED


@given(
    gate=st.sampled_from((*GATES, Gate(metric=Metric.LATENCY_P99, limit=0.1))),
    stage=st.lists(st.floats(0, 1), min_size=0, max_size=12),
    control=st.lists(st.floats(0, 1), min_size=0, max_size=12),
    seed=st.integers(-5, 2**70),
)
@settings(max_examples=60, deadline=None)
def test_the_same_evidence_gives_the_same_verdict_and_every_one_has_words(
    gate: Gate, stage: list[float], control: list[float], seed: int
) -> None:
    seen = evidence(gate.metric, stage, control)
    result = one(gate, seen, seed)

    assert result == one(gate, seen, seed)
    assert result.reason.startswith(f"{gate.metric.value}: ")


@given(
    at=st.integers(0, 2),
    value=st.floats(0, 1),
    rest=st.floats(0, 0.02),
    control=st.integers(0, 30),
    gate=st.sampled_from(
        (
            *GATES,
            Gate(metric=Metric.LATENCY_P99, limit=0.02),
            Gate(metric=Metric.ERROR_RATE, limit=0.02),
            Gate(metric=Metric.CONFIDENCE, limit=0.98),
        )
    ),
)
@settings(max_examples=60, deadline=None)
def test_one_of_three_devices_never_kills(
    at: int, value: float, rest: float, control: int, gate: Gate
) -> None:
    higher = gate.metric is Metric.CONFIDENCE
    values = [1 - rest if higher else rest] * 3
    others = [values[0]] * control
    values[at] = value

    assert one(gate, evidence(gate.metric, values, others)).verdict is not BREACHED


@pytest.mark.parametrize(
    ("gate", "values"),
    [
        (Gate(metric=Metric.ERROR_RATE, limit=0.0), [0.3, 0.0, 0.0]),
        (Gate(metric=Metric.CONFIDENCE, limit=1.0), [0.3, 1.0, 1.0]),
        (Gate(metric=Metric.LATENCY_P99, limit=0.0), [0.3, 0.0, 0.0]),
        (Gate(metric=Metric.DRIFT, margin=0.0), [1.0, 0.0, 0.0]),
    ],
)
@pytest.mark.parametrize("control", [0, 3, 100])
def test_one_of_three_kills_not_even_where_nothing_is_allowed(
    gate: Gate, values: list[float], control: int
) -> None:
    assert one(gate, evidence(gate.metric, values, [0.0] * control)).verdict is UNDECIDED


@pytest.mark.parametrize(
    ("holds", "verdict", "reason"),
    [
        (
            "stage.error_rate <= 2 * control.error_rate + 0.1", PASSED,
            ("mine: stage.error_rate <= 2 * control.error_rate + 0.1 holds: "
            "control.error_rate is 0.0015, stage.error_rate is 0.055"),
        ),
        (
            "stage.error_rate <= 2 * control.error_rate + 0.01", BREACHED,
            ("mine: stage.error_rate <= 2 * control.error_rate + 0.01 does not hold: "
            "control.error_rate is 0.0015, stage.error_rate is 0.055"),
        ),
        (
            "not (stage.error_rate > 0.02 and stage.devices >= 20)", BREACHED,
            ("mine: not (stage.error_rate > 0.02 and stage.devices >= 20) does not hold: "
            "stage.devices is 20, stage.error_rate is 0.055"),
        ),
        (
            "stage.error_rate <= 0.0545", UNDECIDED,
            "mine: stage.error_rate <= 0.0545 is not decided: stage.error_rate is 0.055",
        ),
        ("stage.drift < 0.1", UNDECIDED, "mine: no device reports stage.drift"),
        (
            "stage.drift < 0.1 or stage.error_rate < 0.1", PASSED,
            "mine: stage.drift < 0.1 or stage.error_rate < 0.1 holds: stage.error_rate is 0.055",
        ),
        (
            "stage.devices >= 50", UNDECIDED,
            "mine: stage.devices >= 50 is not decided: stage.devices is 20",
        ),
        (
            "stage.inferences > 1000 and control.devices > 3", PASSED,
            ("mine: stage.inferences > 1000 and control.devices > 3 holds: "
            "control.devices is 20, stage.inferences is 2e+04"),
        ),
        (
            "stage.devices < 20 or stage.error_rate < 0.02", BREACHED,
            ("mine: stage.devices < 20 or stage.error_rate < 0.02 does not hold: "
            "stage.devices is 20, stage.error_rate is 0.055"),
        ),
        ("1 > 2", BREACHED, "mine: 1 > 2 does not hold"),
        (
            "stage.error_rate / stage.drift < 2 and 1 > 2", BREACHED,
            ("mine: stage.error_rate / stage.drift < 2 and 1 > 2 does not hold: "
            "stage.error_rate is 0.055"),
        ),
    ],
)  # fmt: skip
def test_expressions_are_judged_by_devices_too(
    holds: str, verdict: GateVerdict, reason: str
) -> None:
    seen = evidence(Metric.ERROR_RATE, BAD, GOOD)
    (result,) = judge((), (Expression(name="mine", holds=holds),), seen, 1)

    assert (result.verdict, result.reason) == (verdict, reason)


def test_an_expression_over_the_control_group_needs_one() -> None:
    mine = Expression(name="mine", holds="stage.error_rate <= control.error_rate")
    (result,) = judge((), (mine,), Evidence(devices(Metric.ERROR_RATE, BAD)), 1)

    assert (result.verdict, result.reason) == (
        UNDECIDED,
        "mine: nobody to compare with has told anything",
    )


@given(
    at=st.integers(0, 2),
    value=st.floats(0, 1),
    text=st.sampled_from(
        (
            "stage.error_rate <= 0.02",
            "stage.error_rate - control.error_rate < 0.01",
            "not stage.error_rate / control.error_rate > 1.5",
        )
    ),
)
def test_one_of_three_devices_breaks_no_expression(at: int, value: float, text: str) -> None:
    values = [0.01, 0.011, 0.012]
    seen = evidence(Metric.ERROR_RATE, [*values[:at], value, *values[at + 1 :]], values * 5)
    (result,) = judge((), (Expression(name="mine", holds=text),), seen, 1)

    assert result.verdict is not BREACHED


def test_where_one_device_decides_whether_there_is_a_number_nothing_is_sure() -> None:
    control = devices(Metric.ERROR_RATE, [0.0, 0.0, 0.0, 0.01], "c")
    seen = Evidence(devices(Metric.ERROR_RATE, BAD), control)
    mine = Expression(name="mine", holds="stage.error_rate / control.error_rate < 2")

    (result,) = judge((), (mine,), seen, 1)

    assert result.verdict is UNDECIDED


def test_a_very_large_group_is_judged_in_blocks() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    seen = evidence(Metric.ERROR_RATE, list(rng.beta(2, 40, 3_000)), list(rng.beta(2, 100, 3_000)))
    high, low = (
        Expression(name="mine", holds=f"stage.error_rate <= {limit}") for limit in (0.05, 0.03)
    )
    results = judge((ERRORS,), (high, low), seen, 1)

    assert [one.verdict for one in results] == [BREACHED, PASSED, BREACHED]


def test_results_come_in_the_order_of_the_gates_and_do_not_sway_each_other() -> None:
    def all_of(values: Mapping[Metric, float], prefix: str) -> tuple[Sample, ...]:
        return tuple(Sample(f"{prefix}{at}", 500, values) for at in range(20))

    good = dict.fromkeys(Metric, 0.01) | {Metric.CONFIDENCE: 0.9}
    bad = good | {Metric.DRIFT: 0.9}
    seen = Evidence(all_of(bad, "s"), all_of(good, "c"))
    results = judge(GATES, (), seen, 1)

    assert [one.name for one in results] == [gate.metric.value for gate in GATES]
    assert [one.verdict for one in results if one.name != "drift"] == [PASSED] * 4
    assert next(one for one in results if one.name == "drift").verdict is BREACHED
    assert [replace(one) for one in judge(GATES[3:4], (), seen, 1)] == [results[3]]
