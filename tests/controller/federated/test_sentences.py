"""How a run is told to people."""

from dataclasses import replace

import pytest

from controller.federated.actions import RunAccount
from controller.federated.run import Run, RunState
from controller.federated.sentences import account_lines, phase_line
from controller.federated.task import Phase, TaskState
from tests.contracts.federated_values import PHASE, RUN


def test_a_phase_says_who_took_part_and_why_others_did_not() -> None:
    told = replace(PHASE, metrics={"loss": 0.25, "accuracy": 0.5, "num-examples": 9.0, "sums/x": 1})

    assert phase_line(replace(told, late=2)) == (
        "3 of 6 asked count (8 eligible), 1 declined, 1 refused, 1 silent, 2 late "
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
    assert rest[-1] == "  under way: 3 of 5 asked have replied"


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
            "no version came of it: worse",
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
