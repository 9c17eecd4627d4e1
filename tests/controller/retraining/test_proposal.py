from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.incident.story import Watched
from controller.retraining.proposal import (
    Act,
    Retrain,
    RetrainPolicy,
    Situation,
    Why,
    decided,
)

POLICY = RetrainPolicy("digits", after_seconds=60)
DRIFT = Watched(3, "drift", 4, 5, 3_000, 900, ("the mean of image has moved",))
MOVED = Situation(DRIFT, since_ms=1_000, incident_open=False, trainable=True)
NOW = 61_000


def test_where_most_devices_have_moved_a_run_is_proposed_with_reasons() -> None:
    decision = decided(POLICY, MOVED, NOW)
    assert decision.act is Act.PROPOSE
    assert decision.why is None
    assert decision.reasons == (
        "4 of 5 devices have moved together",
        "the mean of image has moved",
    )


def test_it_starts_by_itself_only_where_the_file_says_so() -> None:
    assert decided(replace(POLICY, retrain=Retrain.START), MOVED, NOW).act is Act.START


@pytest.mark.parametrize(
    ("situation", "now", "why"),
    [
        (replace(MOVED, watched=replace(DRIFT, verdict="ok")), NOW, Why.QUIET),
        (replace(MOVED, watched=replace(DRIFT, verdict="bad_data")), NOW, Why.FAULTY),
        (replace(MOVED, watched=replace(DRIFT, verdict="insufficient_data")), NOW, Why.UNDECIDED),
        (replace(MOVED, watched=replace(DRIFT, judged=1, moved=1)), NOW, Why.UNDECIDED),
        (replace(MOVED, watched=replace(DRIFT, moved=2)), NOW, Why.FEW),
        (replace(MOVED, watched=replace(DRIFT, running=9)), NOW, Why.FEW),
        (replace(MOVED, incident_open=True), NOW, Why.OPEN),
        (MOVED, NOW - 1, Why.WAITING),
        (replace(MOVED, since_ms=0), NOW, Why.WAITING),
    ],
)
def test_otherwise_nothing_is_done_and_it_says_why(
    situation: Situation, now: int, why: Why
) -> None:
    decision = decided(POLICY, situation, now)
    assert decision.act is Act.NOTHING
    assert decision.why is why


def test_a_version_without_a_train_step_opens_an_incident_for_people() -> None:
    decision = decided(POLICY, replace(MOVED, trainable=False), NOW)
    assert decision.act is Act.OPEN
    assert decision.why is Why.NOT_TRAINABLE
    assert "--trainable" in decision.reasons[-1]


@given(
    moved=st.integers(0, 50),
    judged=st.integers(0, 50),
    share=st.floats(0, 1),
    verdict=st.sampled_from(["ok", "drift", "bad_data", "insufficient_data"]),
    start=st.booleans(),
)
def test_nothing_starts_that_is_not_proposed_and_one_device_never_starts_anything(
    moved: int, judged: int, share: float, verdict: str, start: bool
) -> None:
    watched = Watched(3, verdict, moved, judged, 1, 1)
    policy = replace(POLICY, share=share, retrain=Retrain.START if start else Retrain.PROPOSE)
    decision = decided(policy, replace(MOVED, watched=watched), NOW)
    if moved < 2 or verdict != "drift":
        assert decision.act is Act.NOTHING
    if decision.act is Act.START:
        assert start
