"""Whether a device takes part: it decides itself, and says why not."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.federated.eligibility import (
    Code,
    Condition,
    Ground,
    Load,
    Terms,
    busy_share,
    objection_to,
    objection_to_going_on,
)
from agent.federated.record import EVALUATE, TRAIN
from agent.install.gates import Battery, Circumstances
from protos.documents import Window

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TERMS = Terms(examples=20, held_out=5, battery_percent=50, most_busy=0.5, cooling_off_seconds=600)
CONDITION = Condition(circumstances=Circumstances(NOON))
GROUND = Ground(trainable=True, held=20, held_out=5)
NIGHT = (Window(start_minute=22 * 60, minutes=480),)


def code(
    phase: str = TRAIN,
    terms: Terms = TERMS,
    condition: Condition = CONDITION,
    ground: Ground = GROUND,
) -> str:
    found = objection_to(phase, terms, condition, ground)
    return found.code if found else ""


def in_circumstances(battery: Battery | None = None, *, metered: bool = False) -> Condition:
    return Condition(circumstances=Circumstances(NOON, battery, metered))


def test_a_device_that_has_nothing_against_it_takes_part() -> None:
    assert (code(TRAIN), code(EVALUATE)) == ("", "")


@pytest.mark.parametrize(
    ("ground", "training", "evaluating"),
    [
        (Ground(trainable=False), "not-trainable", "not-trainable"),
        (replace(GROUND, held=19), "too-few-examples", ""),
        (replace(GROUND, held_out=4), "too-few-held-out", "too-few-held-out"),
    ],
)
def test_there_must_be_something_to_learn_from(
    ground: Ground, training: str, evaluating: str
) -> None:
    assert (code(TRAIN, ground=ground), code(EVALUATE, ground=ground)) == (training, evaluating)


def test_an_evaluation_needs_a_hold_out_whatever_the_terms_say() -> None:
    terms, ground = replace(TERMS, held_out=0), replace(GROUND, held_out=0)

    assert code(TRAIN, terms, ground=ground) == ""
    assert code(EVALUATE, terms, ground=ground) == "too-few-held-out"


@pytest.mark.parametrize(
    ("battery", "on_battery", "expected"),
    [
        (Battery(5, on_mains=True), False, ""),
        (Battery(95, on_mains=False), False, "on-battery"),
        (Battery(95, on_mains=False), True, ""),
        (Battery(49, on_mains=False), True, "battery-low"),
    ],
)
def test_power(battery: Battery, on_battery: bool, expected: str) -> None:
    assert code(TRAIN, replace(TERMS, on_battery=on_battery), in_circumstances(battery)) == expected


def test_a_metered_link_is_left_alone_unless_the_owner_says_otherwise() -> None:
    metered = in_circumstances(metered=True)

    assert code(TRAIN, condition=metered) == "metered-link"
    assert code(TRAIN, replace(TERMS, on_metered=True), metered) == ""


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (replace(CONDITION, since_trained=599.0), "cooling-off"),
        (replace(CONDITION, since_trained=600.0), ""),
        (replace(CONDITION, rests=1.0), "cooling-off"),
    ],
)
def test_after_a_training_it_rests_and_may_be_asked_how_good_it_is(
    condition: Condition, expected: str
) -> None:
    assert (code(TRAIN, condition=condition), code(EVALUATE, condition=condition)) == (expected, "")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (CONDITION, None),
        (replace(CONDITION, busy=1.0, rests=60.0), None),
        (in_circumstances(Battery(90, on_mains=False)), Code.ON_BATTERY),
        (in_circumstances(metered=True), Code.METERED_LINK),
    ],
)
def test_what_was_begun_ends_for_power_and_link_only(
    condition: Condition, expected: Code | None
) -> None:
    found = objection_to_going_on(TERMS, condition)

    assert (found.code if found else None) == expected


def test_inference_goes_first() -> None:
    busy = replace(CONDITION, busy=0.51)

    assert (code(TRAIN, condition=busy), code(EVALUATE, condition=busy)) == ("busy", "busy")


def test_outside_its_windows_it_waits_and_says_when() -> None:
    found = objection_to(TRAIN, replace(TERMS, windows=NIGHT), CONDITION, GROUND)

    assert found is not None
    assert (found.code, found.words) == (
        "outside-window",
        "its window opens on Tuesday 22:00 UTC",
    )


def test_how_busy_it_is() -> None:
    earlier = Load(100.0, {("m", 1): 5.0, ("gone", 1): 3.0})
    later = Load(110.0, {("m", 1): 9.0, ("new", 1): 2.0})

    assert busy_share(earlier, later, threads=2) == pytest.approx(6.0 / 20.0)
    assert busy_share(earlier, earlier, threads=2) == 0.0
    assert busy_share(earlier, Load(101.0, {("m", 1): 99.0}), threads=2) == 1.0


def test_the_documentation_has_every_reason() -> None:
    text = (Path(__file__).parents[3] / "docs" / "federated.md").read_text()

    assert [one for one in Code if f"`{one}`" not in text] == []
