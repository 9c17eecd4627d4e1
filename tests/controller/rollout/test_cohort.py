import itertools
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.rollout.cohort import MINIMUM_CONTROL, control_group, order

names = st.sets(st.integers(0, 400).map(lambda number: f"d{number}"), min_size=1, max_size=120)
salts = st.sampled_from(["digits-2-1", "digits-3-1"])
strata = st.sampled_from([("a",), ("b",), ("c",)])


@given(salts, names)
def test_the_order_is_the_same_however_the_devices_come(salt: str, devices: set[str]) -> None:
    first = order(salt, sorted(devices), {})

    assert first == order(salt, sorted(devices, reverse=True), {})
    assert sorted(first) == sorted(devices)


def test_another_rollout_draws_another_canary() -> None:
    devices = [f"d{number}" for number in range(50)]
    first = {order(f"digits-{number}-1", devices, {})[0] for number in range(40)}

    assert len(first) > 15


@given(salts, names, st.data())
def test_every_stratum_has_its_share_of_every_first_part(
    salt: str, devices: set[str], data: st.DataObject
) -> None:
    of = {name: data.draw(strata) for name in sorted(devices)}
    drawn = order(salt, devices, of)
    total = Counter(of.values())
    for size in range(1, len(drawn) + 1):
        part = Counter(of[one] for one in drawn[:size])
        for stratum, count in total.items():
            # Within one of its own, and of one for each other stratum.
            assert abs(part[stratum] - count * size / len(drawn)) < len(total) + 1


@given(salts, names, st.floats(0, 50))
def test_a_control_group_has_its_share_and_never_all(
    salt: str, devices: set[str], percent: float
) -> None:
    drawn = order(salt, devices, {})
    group = control_group(drawn, percent)

    assert drawn[len(drawn) - len(group) :] == group
    assert len(group) < len(drawn)
    share = math.ceil(len(drawn) * percent / 100)
    assert len(group) in {0, share, len(drawn) - 1}
    assert len(group) == 0 or len(group) >= MINIMUM_CONTROL


@pytest.mark.parametrize(
    ("devices", "size"), [(1, 0), (2, 0), (10, 0), (11, 2), (20, 2), (200, 20)]
)
def test_a_control_group_of_one_is_none(devices: int, size: int) -> None:
    drawn = [f"d{number}" for number in range(devices)]

    assert len(control_group(drawn, 10)) == size


@settings(max_examples=50)
@given(salts, names)
def test_one_device_more_changes_nobodys_place_among_the_others(
    salt: str, devices: set[str]
) -> None:
    before = order(salt, devices, {})
    after = [one for one in order(salt, {*devices, "new"}, {}) if one != "new"]

    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert moved == 0


@settings(max_examples=30)
@given(salts, names.filter(lambda found: len(found) > 20), st.floats(1, 99))
def test_one_device_more_moves_at_most_one_over_any_edge_of_a_stage(
    salt: str, devices: set[str], percent: float
) -> None:
    def stage(of: set[str]) -> set[str]:
        drawn = order(salt, of, {})
        return set(itertools.islice(drawn, math.ceil(len(of) * percent / 100)))

    before, after = stage(devices), stage({*devices, "new"})

    assert len(before ^ after) <= 2
