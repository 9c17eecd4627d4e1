"""How long it takes: soak, pace, sites, windows across time zones and daylight saving, and growth."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.fleet_config.estimate import (
    Assumed,
    Candidate,
    Estimate,
    devices_to_prove,
    estimate,
    sites_of,
)
from controller.rollout.conditions import Conditions, Day, Window
from controller.rollout.policy import STAGED, Gate, Metric, Pace, Policy, Proof, Stage

MINUTE, HOUR = 60.0, 3600.0
BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2027, 1, 11, 12, tzinfo=BERLIN).timestamp()  # a Monday
# Ten seconds to fetch, fifty to test, a minute on probation: two minutes in all.
ASSUMED = Assumed(bytes_per_second=1.0, test_seconds=50.0, probation_seconds=60.0)
INSTALL = 120.0


def fleet(
    count: int, sites: int = 1, zone: str = "Europe/Berlin", length: int = 10
) -> list[Candidate]:
    return [Candidate(f"d{n}", f"s{n % sites}", zone, length) for n in range(count)]


def running_another(count: int) -> list[Candidate]:
    return [replace(one, compares=True) for one in fleet(count)]


def policy(*stages: Stage, **more: object) -> Policy:
    asked = {"proof": Proof(failing_below=1.0), **more}
    return Policy.model_validate({"stages": stages, **asked})


def all_at_once(soak: float = 0.0) -> Stage:
    return Stage(name="all", percent=100.0, soak_seconds=soak)


def hours(found: Estimate, begin: float = NOON) -> list[tuple[float, float]]:
    return [((s.begins_at - begin) / HOUR, (s.ends_at - begin) / HOUR) for s in found.stages]


def test_a_device_fetches_tests_is_on_probation_and_soaks() -> None:
    found = estimate(policy(all_at_once(soak=600.0)), fleet(3), 0, NOON, ASSUMED)

    assert found.ends_at == NOON + INSTALL + 600
    assert [one.devices for one in found.stages] == [("d0", "d1", "d2")]


def test_a_device_that_runs_it_already_has_only_to_soak() -> None:
    found = estimate(policy(all_at_once(soak=600.0)), fleet(3, length=0), 0, NOON, ASSUMED)

    assert found.ends_at == NOON + 600


def test_stages_follow_each_other_and_the_control_group_comes_last() -> None:
    stages = (Stage(name="first", count=2), Stage(name="half", percent=50.0), all_at_once(1800.0))
    found = estimate(policy(*stages), fleet(10), 2, NOON, ASSUMED)

    assert [(one.name, len(one.devices)) for one in found.stages] == [
        ("first", 2),
        ("half", 3),
        ("all", 3),
        ("control group", 2),
    ]
    assert found.stages[3].devices == ("d8", "d9")
    each = INSTALL + 1800
    assert [one.ends_at for one in found.stages] == [NOON + each * n for n in (1, 2, 3, 4)]


def test_a_stage_by_selector_takes_whom_it_matches_in_the_order_in_which_they_are_drawn() -> None:
    devices = [
        Candidate(f"d{n}", "", "UTC", 10, frozenset({0} if n in {3, 5} else ())) for n in range(6)
    ]
    stages = (Stage(name="ring", selector="ring=early"), Stage(name="two", count=3), all_at_once())
    found = estimate(policy(*stages), devices, 0, NOON, ASSUMED)

    assert [one.devices for one in found.stages] == [("d3", "d5"), ("d0",), ("d1", "d2", "d4")]


def test_a_stage_does_not_begin_before_its_time() -> None:
    late = Stage(name="all", percent=100.0, soak_seconds=0.0, not_before=NOON + HOUR)
    found = estimate(policy(late), fleet(1), 0, NOON, ASSUMED)

    assert (found.stages[0].begins_at, found.ends_at) == (NOON + HOUR, NOON + HOUR + INSTALL)


def test_pace_lets_so_many_go_in_every_minute_and_grows() -> None:
    even = policy(all_at_once(), pace=Pace(per_minute=10))
    assert estimate(even, fleet(100), 0, NOON, ASSUMED).ends_at == NOON + 9 * MINUTE + INSTALL

    slow = policy(all_at_once(), pace=Pace(per_minute=0.1))
    assert estimate(slow, fleet(4), 0, NOON, ASSUMED).ends_at == NOON + 30 * MINUTE + INSTALL

    growing = policy(all_at_once(), pace=Pace(per_minute=10, growth=2.0, growth_after=20))
    # Ten a minute, three times; by then twenty have succeeded: twice as many. 40 have: 40 a minute.
    found = estimate(growing, fleet(100), 0, NOON, ASSUMED)
    assert found.ends_at == NOON + 5 * MINUTE + INSTALL


def test_a_site_takes_so_many_at_once() -> None:
    narrow = policy(all_at_once(), pace=Pace(per_site=5))

    one_site = estimate(narrow, fleet(20), 0, NOON, ASSUMED)
    four_sites = estimate(narrow, fleet(20, sites=4), 0, NOON, ASSUMED)
    nowhere = estimate(
        narrow, [Candidate(f"d{n}", "", "UTC", 10) for n in range(20)], 0, NOON, ASSUMED
    )

    assert one_site.ends_at == NOON + 4 * INSTALL
    assert four_sites.ends_at == nowhere.ends_at == NOON + INSTALL


def test_devices_switch_in_their_window_in_their_own_zone() -> None:
    night = policy(
        all_at_once(), conditions=Conditions(windows=(Window(start="22:30", minutes=60),))
    )
    berlin = estimate(night, fleet(1), 0, NOON, ASSUMED)
    both = estimate(night, [*fleet(1), *fleet(1, zone="America/New_York")], 0, NOON, ASSUMED)

    assert (berlin.ends_at - NOON) / HOUR == 10.5 + 60 / HOUR
    assert (both.ends_at - NOON) / HOUR == 16.5 + 60 / HOUR
    in_it = datetime(2027, 1, 11, 22, 40, tzinfo=BERLIN).timestamp()
    assert estimate(night, fleet(1), 0, in_it, ASSUMED).ends_at == in_it + INSTALL


@pytest.mark.parametrize(
    ("day", "hours_later"),
    [((2027, 3, 27), 21.0), ((2027, 10, 30), 23.0), ((2027, 6, 12), 22.0)],
)
def test_daylight_saving_is_the_zone_s_own(day: tuple[int, int, int], hours_later: float) -> None:
    sunday = Conditions(windows=(Window(days=(Day.SUNDAY,), start="10:00", minutes=60),))
    noon = datetime(*day, 12, tzinfo=BERLIN).timestamp()

    found = estimate(policy(all_at_once(), conditions=sunday), fleet(1), 0, noon, ASSUMED)

    assert found.ends_at - 60 - noon == hours_later * HOUR


def test_who_waits_for_a_window_is_waited_for_until_its_deadline() -> None:
    night = Conditions(windows=(Window(start="12:30", minutes=60),))
    devices = [*fleet(5), *(Candidate(f"ny{n}", "", "America/New_York", 10) for n in range(5))]

    def lasts(deadline: float) -> tuple[float, float]:
        first = Stage(name="first", count=10, soak_seconds=0, deadline_seconds=deadline)
        rules = policy(first, all_at_once(), conditions=night)
        found = estimate(rules, [*devices, *fleet(10)[5:]], 0, NOON, ASSUMED)
        assert found.ends_at >= found.stages[1].ends_at
        return hours(found)[0]

    patient, other = lasts(86_400.0), lasts(3 * HOUR)
    assert patient[1] > 6  # it is half past twelve in New York
    assert other[1] == 3


def test_a_stage_that_can_not_prove_enough_grows_and_soaks_again() -> None:
    found = estimate(STAGED, running_another(200), 20, NOON, ASSUMED)
    canary, half, rest, held = found.stages

    assert devices_to_prove(STAGED.proof) == 44
    assert (canary.planned, len(canary.devices)) == (20, 45)  # 20, 30, 45
    assert canary.ends_at == NOON + 3 * (INSTALL + 1800)
    assert [len(one.devices) for one in (half, rest, held)] == [55, 80, 20]


def test_gates_that_can_not_tell_are_waited_for_as_long_as_a_stage_soaks() -> None:
    each = INSTALL + 1800
    few = [*fleet(198), *running_another(200)[198:]]  # two that run another version

    def lengths(rules: Policy, devices: list[Candidate]) -> list[float]:
        found = estimate(rules, devices, 20, NOON, ASSUMED)
        return [one.ends_at - one.begins_at for one in found.stages]

    assert lengths(STAGED, fleet(200)) == [3 * each, each, each, each]
    assert lengths(STAGED, running_another(200)) == [3 * each, each, each, each]
    longer = each + 1800
    assert lengths(STAGED, few) == [3 * each + 1800, longer, longer, each]
    both = STAGED.model_copy(update={"gates": (Gate(metric=Metric.DRIFT, margin=0.1, limit=0.5),)})
    assert lengths(both, running_another(200)) == [3 * each, each, each, longer]
    limit = STAGED.model_copy(update={"gates": (Gate(metric=Metric.DRIFT, limit=0.5),)})
    assert lengths(limit, fleet(200)) == [3 * each, each, each, each]
    first = Stage(name="first", count=1)
    proofless = {"gates": limit.gates, "stages": (first, *STAGED.stages[1:]), "proof": Proof()}
    assert lengths(limit.model_copy(update=proofless), fleet(200))[0] == longer


def test_bytes_are_counted_by_site() -> None:
    some = [*fleet(4, sites=2), Candidate("x", "s1", "UTC", 0), Candidate("y", "", "UTC", 7)]

    assert sites_of(some) == {"": (1, 7), "s0": (2, 20), "s1": (2, 20)}


@st.composite
def courses(draw: st.DrawFn) -> tuple[Policy, list[Candidate], int]:
    count = draw(st.integers(0, 60))
    zones = draw(st.lists(st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"]), min_size=1))
    windows = draw(st.sampled_from([(), (Window(start="03:00", minutes=90),)]))
    stages = sorted(draw(st.sets(st.integers(1, 99), max_size=3)))
    made = policy(
        *(Stage(name=f"s{n}", percent=float(n), soak_seconds=draw(st.sampled_from([0.0, 900.0]))) for n in stages),
        all_at_once(draw(st.sampled_from([0.0, 900.0]))),
        pace=Pace(
            per_minute=draw(st.sampled_from([0, 0.5, 3, 7.3])),
            growth=draw(st.sampled_from([1.0, 1.7])),
            growth_after=draw(st.sampled_from([0, 5])),
            per_site=draw(st.integers(0, 3)),
        ),
        proof=draw(st.sampled_from([Proof(failing_below=1.0), Proof(minimum_devices=9)])),
        conditions=Conditions(windows=windows),
    )  # fmt: skip
    devices = [
        Candidate(f"d{n}", draw(st.sampled_from(["", "a", "b"])), zones[n % len(zones)], draw(st.sampled_from([0, 10])))
        for n in range(count)
    ]  # fmt: skip
    return made, devices, draw(st.integers(0, max(0, count - 1)))


@given(courses())
def test_everybody_comes_once_and_time_goes_forward(
    made: tuple[Policy, Sequence[Candidate], int],
) -> None:
    rules, devices, held = made
    found = estimate(rules, devices, held, NOON, ASSUMED)

    come = Counter(name for stage in found.stages for name in stage.devices)
    assert come == Counter(one.device for one in devices)
    assert all(one.begins_at <= one.ends_at <= found.ends_at for one in found.stages)
    assert all(a.ends_at <= b.begins_at for a, b in pairwise(found.stages))
