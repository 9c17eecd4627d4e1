import doctest

import numpy as np
import pytest
import scipy.special  # type: ignore[import-untyped]
import scipy.stats  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.monitor import statistics
from agent.monitor.comparison import compare, pooling
from agent.monitor.reference import CELLS, FIRST

CASES = 4000


def test_the_examples_in_the_text_are_right() -> None:
    assert doctest.testmod(statistics) == (0, 6)


def test_incomplete_gamma_is_scipys() -> None:
    rng = np.random.default_rng(1)
    a, x = rng.uniform(0.5, 300, CASES), rng.uniform(0, 600, CASES)

    ours = statistics.upper_gamma(a, x)

    np.testing.assert_allclose(ours, scipy.special.gammaincc(a, x), rtol=1e-9, atol=1e-12)


def test_incomplete_beta_is_scipys() -> None:
    rng = np.random.default_rng(2)
    a, b, x = rng.uniform(0.5, 300, CASES), rng.uniform(0.5, 5000, CASES), rng.random(CASES)

    ours = statistics.beta_share(a, b, x)

    np.testing.assert_allclose(ours, scipy.special.betainc(a, b, x), rtol=1e-9, atol=1e-11)


def test_kolmogorovs_tail_is_scipys() -> None:
    x = np.linspace(0, 6, CASES)

    ours = statistics.kolmogorov_tail(x)

    np.testing.assert_allclose(ours, scipy.special.kolmogorov(x), rtol=1e-10, atol=1e-14)


@given(
    st.lists(st.integers(1, 500), min_size=2, max_size=32),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_two_sample_chi_square_is_scipys(cells: list[int], seed: int) -> None:
    before = np.array(cells)
    after = np.random.default_rng(seed).integers(1, 500, len(cells))
    totals = before.sum(), after.sum()

    statistic = statistics.chi_square_cells(before, after, totals).sum()
    p = statistics.chi_square_tail(statistic, len(cells) - 1)

    known = scipy.stats.chi2_contingency([before, after], correction=False)
    np.testing.assert_allclose(
        [statistic, p], [known.statistic, known.pvalue], rtol=1e-8, atol=1e-14
    )


@given(st.integers(0, 30), st.integers(0, 30), st.integers(50, 3000), st.integers(50, 3000))
@settings(max_examples=60, deadline=None)
def test_the_rare_value_test_is_the_conditional_binomial(
    known: int, seen: int, rows: int, window: int
) -> None:
    ours = statistics.rare_tail(np.array(known), np.array(seen), (np.array(rows), np.array(window)))

    exact = scipy.stats.binom.sf(seen - 1, known + seen, window / (rows + window))
    np.testing.assert_allclose(ours, exact, rtol=1e-8, atol=1e-14)


def test_ks_distance_over_fine_cells_is_the_exact_one() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.integers(0, 50, 2000), rng.integers(3, 53, 700)
    cells = [np.bincount(side, minlength=60) for side in (before, after)]

    distance = statistics.ks_distance(*cells)

    assert float(distance) == pytest.approx(scipy.stats.ks_2samp(before, after).statistic)


def test_adjusted_psi_of_healthy_windows_is_nought_on_average_and_large_when_not() -> None:
    rng = np.random.default_rng(5)
    before = np.full(10, 1000)
    totals = np.array(10_000), np.array(500)
    healthy = rng.multinomial(500, np.full(10, 0.1), size=400)
    shifted = rng.multinomial(500, np.linspace(0.02, 0.18, 10), size=400)

    raw = [statistics.psi_cells(before, side, totals).sum(axis=1) for side in (healthy, shifted)]

    # On average, PSI of two samples of one law is (B - 1)(1/N + 1/n).
    assert raw[0].mean() == pytest.approx(9 * (1 / 10_000 + 1 / 500), rel=0.1)
    assert statistics.psi_adjusted(raw[0], np.array(9), totals).max() < 0.05
    assert statistics.psi_adjusted(raw[1], np.array(9), totals).min() > 0.1


def rejections(
    shift: float, scale: float, stuck: float, rows: int, trials: int
) -> dict[str, float]:
    """How often each test rejects at 1 %, against a reference of 10 000 normal rows in 32 bins."""
    rng = np.random.default_rng([rows, trials])
    sample = np.sort(rng.normal(size=10_000))
    edges = np.quantile(sample, np.linspace(0, 1, 33))[1:-1]
    before = np.zeros((1, CELLS), np.int64)
    before[0, FIRST : FIRST + 32] = np.bincount(np.searchsorted(edges, sample), minlength=32)
    values = rng.normal(size=(trials, rows)) * scale + shift
    values[rng.random((trials, rows)) < stuck] = 0.5
    at = np.searchsorted(edges, values) + 32 * np.arange(trials)[:, None]
    after = np.zeros((trials, 1, CELLS), np.int64)
    after[:, 0, FIRST : FIRST + 32] = np.bincount(at.ravel(), minlength=32 * trials).reshape(-1, 32)
    found = compare(before, after, np.array([True]), pooling(before, rows))
    return {
        "ks": float((found.p_ks < 0.01).mean()),
        "chi_square": float((found.p_chi_square < 0.01).mean()),
    }


@pytest.mark.parametrize("rows", [50, 100, 300, 1000, 3000])
def test_healthy_windows_are_rejected_as_often_as_the_level_says(rows: int) -> None:
    rng = np.random.default_rng(rows)
    # The true shares between a sample's own quantiles: so each trial has a reference of its own.
    shares = rng.dirichlet(np.full(32, 10_000 / 32), 3000)
    after = np.zeros((3000, 1, CELLS), np.int64)
    after[:, 0, FIRST : FIRST + 32] = rng.multinomial(rows, shares)
    before = np.zeros((1, CELLS), np.int64)
    before[0, FIRST : FIRST + 32] = np.full(32, 312) + (np.arange(32) < 16)

    found = compare(before, after, np.array([True]), pooling(before, rows))

    # 1 % of 3000 is 30; 50 is 3.7 standard deviations above. Binned KS is conservative.
    assert (found.p_ks < 0.01).mean() <= 50 / 3000
    assert 12 / 3000 <= (found.p_chi_square < 0.01).mean() <= 50 / 3000


@pytest.mark.parametrize(
    ("rows", "shift", "scale", "stuck", "test", "least"),
    [
        # The rates that were measured for these cases, less three standard deviations of 400 trials.
        (300, 0.2, 1.0, 0.0, "ks", 0.45),
        (1000, 0.2, 1.0, 0.0, "ks", 0.97),
        (300, 0.0, 1.2, 0.0, "chi_square", 0.37),
        (300, 0.0, 1.0, 0.05, "chi_square", 0.42),
    ],
)
def test_each_test_sees_what_it_is_there_for(
    rows: int, shift: float, scale: float, stuck: float, test: str, least: float
) -> None:
    assert rejections(shift, scale, stuck, rows, 400)[test] >= least


def test_a_comparison_worked_by_hand() -> None:
    before = np.zeros((1, CELLS), np.int64)
    after = np.zeros((1, CELLS), np.int64)
    before[0, FIRST : FIRST + 4] = [100, 100, 100, 100]
    after[0, FIRST : FIRST + 4] = [10, 20, 30, 40]

    found = compare(before, after, np.array([True]), pooling(before, 100))

    # Cumulative shares .25 .5 .75 against .1 .3 .6: the most is .2.
    assert found.distance[0] == pytest.approx(0.2)
    # Expected 22, 24, 26, 28 of the window and four times that of the reference.
    by_hand = 1.25 * (12**2 / 22 + 4**2 / 24 + 4**2 / 26 + 12**2 / 28)
    assert found.chi_square[0] == pytest.approx(by_hand)
    assert found.freedom[0] == 3
    # (.1-.25)ln(.4) + (.2-.25)ln(.8) + (.3-.25)ln(1.2) + (.4-.25)ln(1.6), less 3(1/400 + 1/100).
    assert found.psi[0] == pytest.approx(
        0.137444 + 0.011157 + 0.009116 + 0.070501 - 0.0375, abs=1e-5
    )
    assert found.p_rare[0] == 1.0
    assert found.effect[0] == pytest.approx(0.2)


@given(st.floats(0.001, 0.999), st.floats(1.0, 1e5))
def test_where_a_function_reaches_a_level_is_found_to_the_last_digits(
    share: float, high: float
) -> None:
    low, least = statistics.bracket(lambda x: (x / high) ** 3, share**3, high)

    assert low <= least == pytest.approx(share * high, rel=1e-12)
    assert low == pytest.approx(least, rel=1e-12)
