import numpy as np
import pytest
import scipy.stats  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.monitor.counts import Counts
from agent.monitor.finding import Verdict
from agent.monitor.observer import Observer
from agent.monitor.verdict import judge
from controller.monitor.fleet import chance_of, discoveries, judge_fleet
from controller.monitor.merge import merged
from tests.agent.monitor import profiles

REFERENCE = profiles.reference()


def fleet(
    devices: int, shifted: int = 0, shift: float = 0.0, everywhere: float = 0.0
) -> dict[str, Counts]:
    rng = np.random.default_rng([devices, shifted])
    return {
        f"d{index:03}": profiles.window(
            rng, 300, shift=everywhere + (shift if index < shifted else 0.0)
        )
        for index in range(devices)
    }


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_discoveries_are_benjamini_and_hochbergs(chances: list[float]) -> None:
    adjusted = scipy.stats.false_discovery_control(chances)

    level = discoveries(chances, 0.05)

    # Where an adjusted value is 0.05 to the last digit, either answer is right.
    clear = [(p, q) for p, q in zip(chances, adjusted, strict=True) if abs(q - 0.05) > 1e-12]
    assert [0 < level >= p for p, _ in clear] == [q <= 0.05 for _, q in clear]


def test_nothing_is_found_of_nothing() -> None:
    assert discoveries([], 0.05) == 0.0
    assert judge_fleet(REFERENCE, {}).world.verdict is Verdict.INSUFFICIENT_DATA


def test_a_healthy_fleet_is_healthy() -> None:
    found = judge_fleet(REFERENCE, fleet(60))

    assert found.broken == ()
    assert found.world.verdict is Verdict.OK
    assert found.sentences == (
        "the data of 60 of 60 devices together (18,000 predictions) are as in the reference",
    )


def test_the_few_devices_that_are_broken_are_named_and_do_not_blame_the_world() -> None:
    found = judge_fleet(REFERENCE, fleet(40, shifted=3, shift=1.0))

    assert [one.device for one in found.broken] == ["d000", "d001", "d002"]
    assert found.world.verdict is Verdict.OK
    assert found.world_rows == 37 * 300
    assert found.sentences[0] == "3 of 40 devices see data unlike the reference"


def test_a_small_change_everywhere_is_seen_by_the_merged_counts_alone() -> None:
    counts = fleet(60, everywhere=0.16)

    found = judge_fleet(REFERENCE, counts)

    assert all(judge(REFERENCE, one).verdict is Verdict.OK for one in counts.values())
    assert found.broken == ()
    assert found.world.verdict is Verdict.DRIFT
    assert found.world.findings[0].series in {"x[0]", "score"}


def test_where_most_devices_moved_it_is_the_world_that_has() -> None:
    found = judge_fleet(REFERENCE, fleet(6, everywhere=1.5))

    assert found.broken == ()
    assert found.world.verdict is Verdict.DRIFT
    assert "have changed" in found.sentences[0]


def faulty(rng: np.random.Generator, shift: float) -> Counts:
    """A device of which one in fifty readings of one feature is out of range."""
    x = profiles.features(rng, 300, shift)
    x[:6, 1] = 1e6
    observer = Observer(REFERENCE)
    observer.observe(profiles.inputs(x, profiles.colours(rng, 300)), profiles.answers(x))
    return observer.drain()


def test_a_faulty_device_is_broken_and_what_else_it_sees_is_kept() -> None:
    counts = fleet(12) | {"d000": faulty(np.random.default_rng(3), shift=2.0)}

    found = judge_fleet(REFERENCE, counts)

    (broken,) = found.broken
    assert (broken.device, broken.judgement.verdict) == ("d000", Verdict.BAD_DATA)
    assert {one.kind for one in broken.judgement.findings} == {"quality", "drift"}
    assert found.sentences[1].startswith("d000: 2 % of x[1] is far out of range")
    assert found.world.verdict is Verdict.OK


def test_what_moved_beside_faulty_data_does_not_make_a_device_look_less_likely_healthy() -> None:
    chances = []
    for shift in (0.0, 2.0):
        judgement = judge(REFERENCE, faulty(np.random.default_rng(3), shift))
        assert judgement.verdict is Verdict.BAD_DATA
        chances.append(chance_of(judgement))

    assert chances[0] == chances[1]


def test_devices_with_too_little_data_say_nothing_and_are_said_to() -> None:
    counts = fleet(3) | {"slow": profiles.window(np.random.default_rng(1), 20, shift=2.0)}

    found = judge_fleet(REFERENCE, counts)

    assert found.broken == ()
    assert found.sentences[-1] == "1 of 4 devices have too little data to judge"


def test_one_device_is_no_fleet() -> None:
    assert judge_fleet(REFERENCE, fleet(1)).world.verdict is Verdict.INSUFFICIENT_DATA


def test_merging_devices_is_the_same_as_one_device_seeing_it_all() -> None:
    counts = list(fleet(5).values())

    total = merged(counts)

    assert total is not None
    assert total.rows == 1500
    assert total == merged(reversed(counts))


@pytest.mark.parametrize("devices", [2, 5, 30])
def test_few_healthy_fleets_are_accused(devices: int) -> None:
    rng = np.random.default_rng(devices)
    fleets = [
        {f"d{i}": profiles.window(rng, 300) for i in range(devices)} for _ in range(60 // devices)
    ]

    accused = [one for one in fleets if judge_fleet(REFERENCE, one).broken]

    # The share of false discoveries is held to 5 %, and effects must be seen besides.
    assert len(accused) <= 2
