"""When gates are asked, what follows from what they say, and what is told of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.rollout.account import Tally
from controller.rollout.gate.evidence import Evidence, Sample
from controller.rollout.gate.judgement import GateVerdict
from controller.rollout.gate.look import LOOK_SECONDS
from controller.rollout.policy import GATES, Breach, Expression, Gate, Metric, Policy, Proof, Stage
from controller.rollout.rollout import StageRecord, StageState
from controller.rollout.verdict import Case, Ruling, verdict

NOW = 1_000_000.0
SOAK = 600.0
STAGE = Stage(name="canary", percent=100, soak_seconds=SOAK, on_breach=Breach.PAUSE)
RECORD = StageRecord("r", 0, StageState.OPEN, size=20, opened_at=NOW - 1000)
ERRORS = Gate(metric=Metric.ERROR_RATE, margin=0.01)
SLOWER = Gate(metric=Metric.LATENCY_P99, margin_ratio=0.5)
ALL_WELL = Tally(ok=20)
PROOF = Proof(minimum_devices=5, failing_below=0.1)
SURE = Proof(minimum_devices=5, failing_below=0.5)


def group(name: str, count: int, errors: float) -> tuple[Sample, ...]:
    """Devices whose errors are about so many."""
    return tuple(
        Sample(f"{name}-{at}", 1_000, {Metric.ERROR_RATE: errors * (0.9 + 0.2 * (at % 5) / 4)})
        for at in range(count)
    )


def seen(errors: float, control: int = 20) -> Evidence:
    return Evidence(group("s", 20, errors), group("c", control, 0.001))


GOOD, BAD = seen(0.001), seen(0.05)


def case(
    evidence: Evidence | None,
    tally: Tally = ALL_WELL,
    gates: tuple[Gate, ...] = (ERRORS,),
    proof: Proof = PROOF,
    most: int = 100,
    due: int = 0,
    record: StageRecord = RECORD,
) -> Case:
    return Case(
        policy=Policy(stages=(STAGE,), gates=gates, proof=proof),
        stage=STAGE,
        record=record,
        tally=tally,
        so_far=tally,
        accepted=(0, 0),
        due=due,
        most=most,
        settled_at=NOW,
        nearly_at=NOW - LOOK_SECONDS,
        held_until=NOW,
        evidence=evidence,
    )


def test_a_bad_version_is_stopped_before_more_devices_get_it() -> None:
    assert verdict(case(GOOD), NOW).ruling is Ruling.GROW

    found = verdict(case(BAD), NOW)

    assert (found.ruling, found.broken) == (Ruling.BREACH, ("error-rate",))
    assert "5 % on 20 devices, 0.1 % on 20 of the control group" in found.reason


def test_nobody_more_gets_it_before_the_gates_were_asked() -> None:
    asks = verdict(case(None), NOW)

    assert (asks.ruling, asks.wants_evidence) == (Ruling.WAIT, True)
    assert verdict(case(None, gates=()), NOW).ruling is Ruling.GROW


@given(
    st.integers(0, 60),
    st.integers(0, 3),
    st.integers(0, 30),
    st.integers(20, 40),
    st.floats(0, 2000),
    st.booleans(),
)
@settings(max_examples=60)
def test_what_the_gates_show_to_be_bad_neither_grows_nor_passes(
    ok: int, failed: int, away: int, most: int, later: float, sure: bool
) -> None:
    tally = Tally(ok=ok, failed=failed, away=away)
    told = case(BAD, tally, proof=SURE if sure else PROOF, most=most)

    assert verdict(told, NOW + later).ruling not in {Ruling.GROW, Ruling.GO_ON}


def test_what_a_person_has_accepted_grows_and_passes_and_says_so() -> None:
    accepted = replace(RECORD, accepted_gates=("error-rate",))

    assert verdict(case(BAD, record=accepted), NOW).ruling is Ruling.GROW
    passed = verdict(case(BAD, record=accepted, proof=SURE), NOW)
    assert passed.ruling is Ruling.GO_ON
    assert passed.compared[0].endswith("1.1 % at most (breached, and accepted)")


def test_a_stage_that_passes_says_what_each_gate_compared() -> None:
    found = verdict(case(GOOD, gates=(ERRORS, SLOWER), proof=SURE), NOW + SOAK)

    assert (found.ruling, found.reason) == (Ruling.GO_ON, "20 of 20 run it")
    assert found.compared == (
        "error-rate: 0.1 % on 20 devices, 0.1 % on 20 of the control group; 1.1 % at most",
        "latency-p99: no device reports it (not decided)",
    )


def test_with_nobody_left_to_compare_with_only_limits_are_told() -> None:
    limit = Gate(metric=Metric.ERROR_RATE, limit=0.02)
    alone = seen(0.001, control=0)

    found = verdict(case(alone, gates=(SLOWER, limit), proof=SURE), NOW)

    assert found.reason == "20 of 20 run it; nobody to compare with"
    assert found.compared == ("error-rate: 0.1 % on 20 devices; 2 % at most",)


def test_a_gate_that_can_not_tell_is_waited_for_once_more_as_long_as_the_soak() -> None:
    told = case(GOOD, gates=(SLOWER,), proof=SURE)

    waits = verdict(told, NOW)
    assert (waits.ruling, waits.again_at) == (Ruling.WAIT, NOW + LOOK_SECONDS)
    assert verdict(told, NOW + SOAK).ruling is Ruling.GO_ON


def test_inferences_are_waited_for_and_a_fault_is_not() -> None:
    asked = SURE.model_copy(update={"minimum_inferences": 50_000})

    assert verdict(case(GOOD, proof=asked), NOW).reason == "20,000 of 50,000 inferences"
    assert verdict(case(BAD, proof=asked), NOW).ruling is Ruling.BREACH
    assert verdict(case(GOOD, gates=(), proof=asked), NOW).ruling is Ruling.WAIT


def test_an_expression_is_a_gate_like_any_other() -> None:
    mine = Expression(name="mine", holds="stage.error_rate <= 2 * control.error_rate + 0.001")
    told = case(BAD, gates=())
    policy = told.policy.model_copy(update={"expressions": (mine,)})

    assert verdict(replace(told, policy=policy), NOW).broken == ("mine",)


# --- Stragglers -----------------------------------------------------------------------------------

NEARLY = Tally(ok=19, waiting=1)


def test_a_straggler_hides_no_fault() -> None:
    asks = verdict(case(None, NEARLY), NOW)
    assert (asks.ruling, asks.wants_evidence) == (Ruling.WAIT, True)

    assert verdict(case(BAD, NEARLY), NOW).ruling is Ruling.BREACH
    good = verdict(case(GOOD, NEARLY), NOW)
    assert (good.ruling, good.reason) == (Ruling.WAIT, "1 install")
    assert [one.verdict for one in good.gates] == [GateVerdict.PASSED]


@pytest.mark.parametrize(
    "told",
    [
        case(BAD, NEARLY, due=1),
        case(BAD, NEARLY, gates=()),
        replace(case(BAD, NEARLY), nearly_at=math.inf),
    ],
    ids=["more are to be released", "no gates", "too many stragglers"],
)
def test_part_of_a_stage_is_not_judged(told: Case) -> None:
    found = verdict(told, NOW)

    assert (found.ruling, found.gates, found.wants_evidence) == (Ruling.WAIT, (), False)


def test_looks_at_a_stage_with_stragglers_are_few() -> None:
    told, at, looks = case(None, NEARLY), NOW, 0
    while at < NOW + STAGE.deadline_seconds:
        found = verdict(told, at)
        looks += found.wants_evidence
        assert not verdict(told, at + LOOK_SECONDS).wants_evidence
        at = found.again_at

    assert looks == 8  # 86,400 s are 144 soaks


# --- Chance ---------------------------------------------------------------------------------------


def test_a_good_version_is_stopped_by_chance_in_less_than_one_of_a_hundred_rollouts() -> None:
    """With a look at each size that the default policy has for 200 devices.

    The gate allows nothing: a version that is as good as the one before it is at its very bound.
    """
    strict = Gate(metric=Metric.ERROR_RATE, margin=0.0)
    stopped = sum(_stopped(np.random.default_rng(seed), strict) for seed in range(120))
    by_default = sum(_stopped(np.random.default_rng(seed), *GATES) for seed in range(30))

    assert stopped <= 1
    assert by_default == 0


def _stopped(rng: np.random.Generator, *gates: Gate) -> bool:
    rates = 0.001 * np.exp(rng.normal(0.0, 0.4, 200))
    asked, failed = np.zeros(200, int), np.zeros(200, int)
    for size in (20, 30, 45, 100, 180):
        more = rng.poisson(600, 200)
        asked, failed = asked + more, failed + rng.binomial(more, rates)
        samples = tuple(
            Sample(str(at), int(asked[at]), {Metric.ERROR_RATE: failed[at] / asked[at]})
            for at in range(200)
        )
        found = Evidence(samples[:size], samples[size:])
        record = replace(RECORD, size=size)
        told = case(found, Tally(ok=size), gates, most=200, record=record)
        if verdict(told, NOW).ruling is Ruling.BREACH:
            return True
    return False
