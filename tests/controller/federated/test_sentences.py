"""How a run is told to people."""

from dataclasses import replace

import pytest

from controller.federated.actions import RunAccount
from controller.federated.exchange import Node
from controller.federated.run import Run, RunState
from controller.federated.sentences import account_lines, phase_line
from controller.federated.task import Phase, TaskState
from controller.federated.turnout import Turnout, turnout_of
from tests.contracts.federated_values import PHASE, RUN

FILE = '[run]\nmodel = "digits/3"\n'


def test_a_phase_says_who_took_part_and_why_others_did_not() -> None:
    told = replace(PHASE, metrics={"loss": 0.25, "accuracy": 0.5, "num-examples": 9.0, "sums/x": 1})

    assert phase_line(replace(told, late=2)) == (
        "3 of 6 devices of 8 ready count, 1 declined, 1 refused, 1 silent, 2 late "
        "[1 busy, 1 norm]; accuracy 0.5; loss 0.25; 8.59 GB down, 700 B up; 0.0 s (deadline)"
    )


def test_a_run_is_told_from_its_reasons_to_what_is_under_way() -> None:
    run = replace(RUN, round=1)
    before = replace(
        PHASE, round=0, phase=Phase.EVALUATE, reasons={}, declined=0, refused=0, silent=0
    )
    phases = [before, replace(PHASE, step=2), replace(before, step=3, round=1)]
    account = RunAccount(run, phases, 4, {TaskState.POSTED: 2, TaskState.REPLIED: 3})

    head, because, *rest = account_lines(account)

    assert head == "digits-r1: digits/3 by FedAvg, running, 1 of 5 rounds are done"
    assert because == "  because drift on 9 of 10 devices"
    assert [line.split(": ")[0] for line in rest] == [
        "  evaluated before",
        "  round 1",
        "  evaluated after round 1",
        "  under way",
    ]
    assert rest[-1] == "  under way: 3 of 5 devices have replied"


def test_what_was_lost_in_training_is_told_from_first_to_last() -> None:
    told = {"train_loss": 0.25, "train_loss_first": 0.5, "steps": 4.0}

    assert "count, 1 declined" in phase_line(replace(PHASE, metrics=told))
    assert "; loss in training 0.5 → 0.25; steps 4; " in phase_line(replace(PHASE, metrics=told))


def test_a_list_of_devices_that_an_app_has_asked_for_is_told_as_such() -> None:
    listed = replace(PHASE, phase=Phase.QUERY, selected=0, eligible=4)

    assert phase_line(listed) == "4 devices are ready"


def test_means_of_what_devices_have_counted_tell_nobody_anything() -> None:
    told = replace(PHASE, metrics={"eval_loss": 0.5, "loss-sum": 9.0, "judged": 3.0})

    assert "; eval_loss 0.5; 8.59 GB down" in phase_line(told)


@pytest.mark.parametrize(
    ("turnout", "said"),
    [
        (
            Turnout(1, 2, {"on-battery": 1, "too-few-examples": 3}),
            "waits for devices: 1 ready, 2 needed; 1 on-battery, 3 too-few-examples, 2 without a link",
        ),
        (Turnout(1), "waits for devices: 1 ready, 2 needed"),
        (Turnout(), "waits for devices: none that it selects has said that it runs digits/3"),
    ],
)
def test_a_run_that_has_asked_nobody_says_for_whom_it_waits(turnout: Turnout, said: str) -> None:
    *_, last = account_lines(RunAccount(replace(RUN, file=FILE), [], 0, {}, turnout))

    assert last.startswith(f"  {said}")


def test_a_run_that_could_ask_enough_says_nothing_of_waiting() -> None:
    account = RunAccount(replace(RUN, file=FILE), [], 0, {}, Turnout(2, 1))

    assert not any("waits" in line for line in account_lines(account))


def test_the_turnout_counts_who_is_ready_away_or_unready() -> None:
    nodes = [
        Node(2, "a", connected=True, eligible=True),
        Node(3, "b", connected=False, eligible=True),
        Node(4, "c", connected=True, eligible=False, reason="busy"),
        Node(5, "d", connected=False, eligible=False, reason="busy"),
    ]

    assert turnout_of(nodes) == Turnout(1, 1, {"busy": 2})


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (replace(RUN, state=RunState.PROPOSED), "waits for `muster federated start digits-r1`"),
        (replace(RUN, state=RunState.FAILED, error="too few"), "failed: too few"),
        (replace(RUN, state=RunState.STOPPED), "`muster federated resume digits-r1` goes on"),
        (replace(RUN, state=RunState.FINISHED, candidate=4), "came to digits/4: `muster model"),
        (
            replace(RUN, state=RunState.FINISHED, candidate=4, error="rejected: worse"),
            "came to digits/4, rejected: worse",
        ),
        (
            replace(RUN, state=RunState.FINISHED, arrays_sha256="a"),
            "its version is being made",
        ),
        (
            replace(RUN, state=RunState.FINISHED, arrays_sha256="a", error="worse"),
            "`muster federated resume digits-r1` tries again to make it",
        ),
    ],
)
def test_how_it_ended_says_what_to_do(run: Run, said: str) -> None:
    assert any(said in line for line in account_lines(RunAccount(run, [], 0, {})))


def test_an_app_and_a_file_of_another_release_are_told_as_they_are() -> None:
    app, *_ = account_lines(RunAccount(replace(RUN, app="my:app"), [], 0, {}))
    other, *_ = account_lines(RunAccount(replace(RUN, file="[run]\nmodell = 1"), [], 0, {}))

    assert app == "digits-r1: digits/3 by my:app, running"
    assert "a strategy of another release" in other
