"""What a finished run hands on: its parameters, and what devices told before and after."""

from dataclasses import replace

import numpy as np
import pytest

from agent.federated.evaluation import Evaluation
from controller.federated.evaluation_told import evaluation_of, metrics_of, shown
from controller.federated.exchange import PhaseRecord
from controller.federated.task import Phase, Task, TaskState
from controller.federation import gates_of, trained
from controller.registry.gates import Candidate
from tests.contracts.federated_values import PHASE, RUN, TASK

FILE = '[run]\nmodel = "digits/3"\nrounds = 2\n[training]\nlearning_rate = 0.5\n'

TOLD = Evaluation(
    examples=10,
    loss_sum=2.5,
    judged=10,
    correct=8,
    confusion=(4, 1, 1, 4),
    confidences=(0,) * 9 + (10,),
    confident_correct=(0,) * 9 + (8,),
)


def test_an_evaluation_comes_back_whole_from_the_metrics_of_its_phase() -> None:
    metrics = metrics_of(TOLD)

    assert shown(metrics) == {"examples": 10.0, "loss": 0.25, "accuracy": 0.8}
    assert evaluation_of(metrics) == TOLD
    numbers = Evaluation(examples=3, loss_sum=1.5, judged=3, squared_error_sum=0.5)
    assert evaluation_of(metrics_of(numbers)) == numbers
    assert "accuracy" not in metrics_of(numbers)


def test_nobody_told_is_an_empty_evaluation() -> None:
    assert metrics_of(Evaluation()) == {}
    assert evaluation_of({"loss": 0.5}) == Evaluation()


def test_an_outcome_has_who_took_part_and_what_was_told_before_and_after() -> None:
    run = replace(RUN, round=2)
    middle = replace(TOLD, correct=9, confusion=(5, 0, 1, 4))
    last = replace(TOLD, correct=10, confusion=(5, 0, 0, 5))
    phases = [
        evaluated(1, 0, TOLD, 4),
        PHASE,
        evaluated(3, 1, middle, 4),
        replace(PHASE, step=4, round=2),
        evaluated(5, 2, last, 3),
        replace(evaluated(6, 2, last, 0), metrics={}),
    ]
    tasks = [
        replace(TASK, state=TaskState.ADMITTED),
        replace(TASK, step=4, state=TaskState.ADMITTED),
        replace(TASK, device="dev-2", state=TaskState.REFUSED),
        replace(TASK, device="dev-3", state=TaskState.ADMITTED, phase=Phase.EVALUATE),
        replace(TASK, step=5, device="dev-3", state=TaskState.ADMITTED, phase=Phase.EVALUATE),
        replace(TASK, device="dev-4", state=TaskState.ADMITTED),
    ]
    arrays = {"w": np.ones(3, np.float32)}

    made = trained(run, phases, tasks, arrays)

    assert (made.run, made.round, made.devices, made.evaluated) == (RUN.id, 2, 2, 3)
    assert (made.before, made.after) == (TOLD, last)
    assert made.parameters is arrays


def test_a_run_without_evaluations_tells_none() -> None:
    made = trained(RUN, [PHASE], [], {})

    assert (made.before, made.after, made.evaluated) == (Evaluation(), Evaluation(), 0)


@pytest.mark.parametrize(("both", "known"), [(5, True), (3, True), (2, False), (0, False)])
def test_nothing_is_known_of_the_parent_where_most_that_told_of_it_fell_silent(
    both: int, *, known: bool
) -> None:
    """Others have told of what came of it instead."""
    phases = [evaluated(1, 0, TOLD, 5), evaluated(3, 1, TOLD, 5)]
    tasks = [*telling(1, range(5)), *telling(3, range(5 - both, 10 - both))]

    made = trained(replace(RUN, round=1), phases, tasks, {})

    assert (made.before, made.after) == (TOLD if known else Evaluation(), TOLD)


@pytest.mark.parametrize(
    ("before", "told", "objects"),
    [("true", False, True), ("true", True, False), ("false", False, False)],
)
def test_a_candidate_passes_no_gate_beside_a_parent_of_which_nobody_told(
    before: str, *, told: bool, objects: bool
) -> None:
    run = replace(RUN, round=1, file=f"{FILE}[evaluation]\nbefore = {before}\n")
    phases = [evaluated(3, 1, TOLD, 5)]
    made = trained(run, [evaluated(1, 0, TOLD, 5), *phases] if told else phases, [], {})

    found = gates_of(run, made).objections(
        Candidate(1000, {}, {}, 0.0, 0, {"loss": 0.1}, "digits/3")
    )

    assert [one.startswith("too few devices told how good digits/3 is") for one in found] == (
        [True] if objects else []
    )


def telling(step: int, devices: range) -> list[Task]:
    return [
        replace(TASK, step=step, node=one, phase=Phase.EVALUATE, state=TaskState.ADMITTED)
        for one in devices
    ]


def evaluated(step: int, round_: int, told: Evaluation, devices: int) -> PhaseRecord:
    return replace(
        PHASE,
        step=step,
        round=round_,
        phase=Phase.EVALUATE,
        admitted=devices,
        metrics=metrics_of(told),
    )
