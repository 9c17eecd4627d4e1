"""The chances that stand behind verdicts, beside scipy's and beside their own definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from controller.rollout.gate.comparison import (
    ALPHA,
    MOST_DEVICES,
    Measured,
    above,
    bounded_tail,
    can_tell,
    student_tail,
    worse,
)


def of(*values: float, weights: list[float] | None = None) -> Measured:
    array = np.array(values, np.float64)
    return Measured(array, np.array(weights) if weights else np.ones(len(array)))


def dice(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@given(st.floats(-50, 50), st.floats(1, 300))
def test_students_tail_is_scipys(t: float, freedom: float) -> None:
    assert student_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-6, abs=1e-12)


def test_no_spread_at_all_is_certain_either_way() -> None:
    assert (student_tail(float("inf"), 3), student_tail(float("-inf"), 3)) == (0.0, 1.0)


@pytest.mark.parametrize("sizes", [(5, 11), (9, 6), (8, 8)])
def test_all_deals_give_the_exact_chance_of_the_rank_sum(sizes: tuple[int, int]) -> None:
    values = dice(3).normal(size=sum(sizes))
    values[: sizes[0]] += 2.5
    stage, control = of(*values[: sizes[0]]), of(*values[sizes[0] :])
    oracle = stats.mannwhitneyu(
        stage.values, control.values, alternative="greater", method="exact"
    ).pvalue

    assert can_tell(*sizes)
    assert worse(stage, control, 0.0, dice()).typical == pytest.approx(oracle, rel=1e-9)


def test_all_deals_give_the_chance_of_welchs_t_by_its_definition() -> None:
    values = dice(4).lognormal(size=15)
    values[:7] *= 2
    oracle = stats.permutation_test(
        (values[:7], values[7:]),
        lambda one, other, axis: stats.ttest_ind(one, other, axis=axis, equal_var=False).statistic,
        alternative="greater",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue

    found = worse(of(*values[:7]), of(*values[7:]), 0.0, dice())

    assert found.average == pytest.approx(oracle, rel=1e-9)


def test_deals_by_chance_come_near_all_deals() -> None:
    values = dice(5).normal(size=60)
    values[:30] += 0.5
    stage, control = of(*values[:30]), of(*values[30:])
    oracle = stats.mannwhitneyu(stage.values, control.values, alternative="greater").pvalue

    assert worse(stage, control, 0.0, dice()).typical == pytest.approx(oracle, abs=0.02)


def test_the_chance_of_a_deal_is_itself_even() -> None:
    """Of groups that do not differ, at most a share of x has a chance below x."""
    rng, found = dice(6), []
    for _ in range(400):
        values = rng.lognormal(0, 1.5, 12)
        found.append(worse(of(*values[:4]), of(*values[4:]), 0.0, rng).average)

    for level in (0.01, 0.05, 0.2, 0.5):
        seen = sum(one <= level for one in found)
        assert stats.binom.sf(seen - 1, len(found), level) > 1e-3


@given(st.lists(st.floats(0, 1), min_size=3, max_size=8), st.floats(0.05, 0.9))
def test_one_of_three_never_stands_out(control: list[float], lot: float) -> None:
    stage = of(1.0, min(control), min(control))

    assert min(_chances(worse(stage, of(*control), lot * 0.1, dice()))) > ALPHA


def _chances(found: object) -> tuple[float, float]:
    return found.average, found.typical  # type: ignore[attr-defined]


@given(st.integers(0, 7), st.integers(0, 7))
def test_groups_of_one_or_two_show_nothing(size: int, other: int) -> None:
    if min(size, other) < 3:
        found = worse(of(*[1.0] * size), of(*[0.0] * other), 0.0, dice())
        assert _chances(found) == (1.0, 1.0)
    if size < 3:
        assert _chances(above(of(*[1.0] * size), 0.0, 0.0)) == (1.0, 1.0)


def test_a_deal_is_rare_enough_from_seven_and_seven_on() -> None:
    assert [can_tell(n, n) for n in (3, 6, 7, 50)] == [False, False, True, True]
    assert [can_tell(3, n) for n in (2, 20, 40)] == [False, False, True]


@pytest.mark.parametrize("liar", [0.0, 1.0, 3600.0])
def test_no_single_device_hides_that_most_are_worse(liar: float) -> None:
    control = dice(7).normal(0.1, 0.01, 20)
    stage = dice(8).normal(0.2, 0.01, 20)
    worst = worse(of(liar, *stage), of(*control), 0.0, dice())
    hidden = worse(of(*stage), of(liar, *control), 0.0, dice())

    assert min(_chances(worst)) <= ALPHA
    assert min(_chances(hidden)) <= ALPHA
    assert min(_chances(above(of(liar, *stage), 0.12, 0.0))) <= ALPHA


def test_devices_that_answered_little_weigh_little() -> None:
    rng = dice(9)
    few = [0.01] * 20
    values, control = rng.normal(0.1, 0.01, 20), rng.normal(0.1, 0.01, 40)
    stage = of(*values, *[0.3] * 20, weights=[1.0] * 20 + few)

    assert stage.average == pytest.approx(0.1, abs=0.01)
    assert worse(stage, of(*control), 0.0, dice()).average > ALPHA


def test_of_very_many_devices_some_are_looked_at() -> None:
    many = of(*dice(10).normal(size=5_000))

    assert len(many.drawn(dice())) == MOST_DEVICES
    assert set(many.drawn(dice()).values) <= set(many.values)
    assert worse(many.moved(1.0, 0.5), many, 0.0, dice()).average <= ALPHA


@given(st.lists(st.floats(0, 10), min_size=4, max_size=30), st.floats(0.1, 5))
@settings(max_examples=50)
def test_above_a_limit_is_students_and_the_signs(values: list[float], limit: float) -> None:
    found = above(of(*values), limit, 0.01)
    over = sum(one > limit for one in values)

    assert found.typical == pytest.approx(
        stats.binomtest(over, len(values), alternative="greater").pvalue, rel=1e-6
    )
    if np.std(values, ddof=1) > 0.01:
        oracle = stats.ttest_1samp(values, limit, alternative="greater").pvalue
        assert found.average == pytest.approx(oracle, rel=1e-6, abs=1e-12)


@given(st.integers(3, 60), st.floats(0.001, 0.5), st.data())
def test_hoeffdings_bound_is_never_below_the_chance_of_all_or_nothing(
    count: int, limit: float, data: st.DataObject
) -> None:
    """Of all shares with a mean, those that are 0 or 1 vary most."""
    hits = data.draw(st.integers(0, count))
    bound = bounded_tail(hits / count, limit, count)

    assert stats.binom.sf(hits - 1, count, limit) <= bound + 1e-12 <= 1 + 1e-12


def test_a_third_of_the_devices_that_fail_altogether_is_above_a_limit() -> None:
    sixth = of(*[0.95] * 6, *[0.001] * 14)

    assert above(sixth, 0.02, 0.01).average > ALPHA
    assert above(sixth, 0.02, 0.01, shares=True).average <= ALPHA
    assert above(of(1.0, 0.0, 0.0), 0.02, 0.0, shares=True).average > ALPHA
    assert above(of(1.0, 1.0, 1.0), 0.02, 0.0, shares=True).average <= ALPHA
    assert bounded_tail(0.1, 0.0, 3) == 1.0


@given(st.lists(st.floats(0, 1), min_size=3, max_size=5, unique=True), st.floats(0.01, 1))
def test_a_floor_only_makes_small_groups_less_sure(values: list[float], floor: float) -> None:
    control, stage = of(*values), of(*values).moved(1.0, 0.3)

    plain, floored = (worse(stage, control, one, dice()).average for one in (0.0, floor))

    assert floored >= plain - 1e-12
