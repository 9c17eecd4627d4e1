"""What a file says becomes a policy: its own keys first, then the file's, then the default."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from controller.fleet_config.document import FleetFile
from controller.fleet_config.fleet import Goal, narrowed, place_in_file
from controller.fleet_config.reading import read_fleet
from controller.rollout.policy import STAGED, Breach, Metric, Policy, Watching
from controller.toml_file.keys import described, table_of

SMALLEST = """
[fleet]
name = "f"
selector = "kind=meter"
[[models]]
name = "digits"
version = "digits/3"
"""


def goals(text: str) -> tuple[Goal, ...]:
    return read_fleet(text, "f.toml").goals


def test_what_a_file_leaves_out_is_as_in_the_default() -> None:
    (goal,) = goals(SMALLEST)

    assert goal == Goal("digits", "digits/3", "champion", "kind=meter", STAGED)


def test_a_key_of_a_table_leaves_the_other_keys_as_they_are() -> None:
    (goal,) = goals(SMALLEST + "[proof]\nminimum_inferences = 7\n[budget]\nsilence = '2h'\n")

    assert goal.policy.proof == STAGED.proof.model_copy(update={"minimum_inferences": 7})
    assert goal.policy.budget == STAGED.budget
    assert goal.policy.silence_seconds == 7200


def test_a_model_s_own_keys_go_first_and_its_lists_replace_the_file_s() -> None:
    own = """
    [models.budget]
    failed = 0.05
    [[models.gates]]
    metric = "drift"
    limit = 0.5
    [[models]]
    name = "other"
    version = "other@champion"
    slot = "challenger"
    selector = "hw!=pi3 or has gpu"
    [budget]
    failed = 0.03
    unreachable = 0.3
    [[gates]]
    metric = "error-rate"
    margin = 0.1
    [[gates]]
    metric = "latency-p99"
    limit = 1
    """
    first, second = goals(SMALLEST + own)

    assert (first.policy.budget.failed, first.policy.budget.unreachable) == (0.05, 0.3)
    assert [one.metric for one in first.policy.gates] == [Metric.DRIFT]
    assert (second.policy.budget.failed, second.policy.budget.unreachable) == (0.03, 0.3)
    assert len(second.policy.gates) == 2
    assert (second.version, second.slot) == ("other@champion", "challenger")
    assert second.selector == "kind=meter and (hw!=pi3 or has gpu)"


def test_everything_that_a_stage_says_arrives() -> None:
    (goal,) = goals(
        "gates = []\n"
        + SMALLEST
        + """
        [control]
        percent = 5
        stratify_by = ["site"]
        [[stages]]
        name = "first"
        count = 3
        soak = "90m"
        not_before = 2027-01-11T09:00:00+01:00
        [[stages]]
        name = "all"
        percent = 100
        approval = true
        deadline = "2d"
        on_breach = "rollback-all"
        gates = [{ metric = "confidence", margin = 0.1 }]
        [[conditions.windows]]
        days = ["sat"]
        start = "22:30"
        duration = "4h"
        """
    )
    first, last = goal.policy.stages

    assert (first.count, first.soak_seconds, first.not_before) == (3, 5400, 1_799_654_400)
    assert (last.approval, last.deadline_seconds) == (True, 172_800)
    assert (last.on_breach, last.gates[0].margin) == (Breach.ROLLBACK_ALL, 0.1)
    assert goal.policy.gates == ()
    assert (goal.policy.control_percent, goal.policy.stratify_by) == (5, ("site",))
    (window,) = goal.policy.conditions.windows
    assert (window.start, window.minutes, window.days) == ("22:30", 240, ("sat",))


def test_a_monitor_is_part_of_the_policy_of_its_model_alone() -> None:
    more = """
    [[models]]
    name = "other"
    version = "other/1"
    [[monitors]]
    model = "digits"
    rows = 500
    window = "10m"
    """
    first, second = goals(SMALLEST + more)

    assert first.policy.watching == Watching(window_rows=500, window_seconds=600)
    assert second.policy == STAGED


@pytest.mark.parametrize(
    ("fleet", "own", "both"),
    [
        ("all", "", "all"),
        ("all", "a=1", "a=1"),
        ("a=1", "", "a=1"),
        ("a=1 and b=2", "c=3", "a=1 and b=2 and c=3"),
        ("a=1 or b=2", "c=3 or d=4", "(a=1 or b=2) and (c=3 or d=4)"),
    ],
)
def test_a_model_narrows_the_fleet(fleet: str, own: str, both: str) -> None:
    assert narrowed(fleet, own) == both


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        inner: Any = table_of(field.annotation)
        if inner is None:
            yield (*path, name)
        else:
            yield from leaves(inner, (*path, name))


@pytest.mark.parametrize("leaf", [*leaves(Policy)], ids=".".join)
def test_a_file_can_say_all_that_a_policy_can(leaf: tuple[str, ...]) -> None:
    table, field = described(place_in_file(leaf), FleetFile)

    assert field is not None, f"{table.__name__} has no key for {leaf}"
