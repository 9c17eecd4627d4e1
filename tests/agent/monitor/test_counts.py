import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.monitor.binning import Binner
from agent.monitor.counts import Counts, ProfileMismatch, empty
from agent.monitor.observer import Observer
from agent.monitor.reference import CELLS, FIRST, INF, NAN, OTHER, OVER, UNDER, Kind, Series
from tests.agent.monitor import profiles

NONE = (0,) * CELLS
NUMERIC = Series(
    name="n", kind=Kind.NUMERIC, counts=NONE, edges=(0.0, 1.0, 2.5, 4.0), unit=2.0**-10, centre=2.0,
    lower=-2.0, upper=6.0,
)  # fmt: skip
OPEN = Series(name="o", kind=Kind.NUMERIC, counts=NONE, edges=(0.0, 1.0), unit=1.0)
DISCRETE = Series(name="d", kind=Kind.CATEGORICAL, counts=NONE, categories=(0.0, 0.5, 3.0))

values = st.one_of(
    st.floats(width=32),
    st.sampled_from([-2.0, 0.0, 0.5, 1.0, 2.5, 3.0, 4.0, 6.0, np.nan, np.inf, -np.inf]),
)
chunks = st.lists(st.lists(values, min_size=1, max_size=30), min_size=1, max_size=6)


def count(column: list[float]) -> Counts:
    array = np.array(column, np.float32)[:, None].repeat(3, axis=1)
    cells, sums, least, greatest = Binner((NUMERIC, OPEN, DISCRETE), array.dtype).count(array)
    return Counts("p", len(column), cells, sums, least, greatest)


def cell_of(value: float, series: Series) -> int:
    """What the cells mean, said the slow way."""
    if not np.isfinite(value):
        return NAN if np.isnan(value) else INF
    if series.lower is not None and value < series.lower:
        return UNDER
    if series.upper is not None and value > series.upper:
        return OVER
    if series.kind is Kind.NUMERIC:
        return FIRST + sum(value >= edge for edge in series.edges[1:-1])
    known = series.categories
    return FIRST + known.index(value) if value in known else OTHER


@given(chunks)
@settings(max_examples=150, deadline=None)
def test_every_value_lands_in_the_cell_that_is_its_own(batches: list[list[float]]) -> None:
    column = [value for batch in batches for value in batch]

    counts = count(column)

    array = np.array(column, np.float32)
    for index, series in enumerate((NUMERIC, OPEN, DISCRETE)):
        expected = np.bincount([cell_of(float(v), series) for v in array], minlength=CELLS)
        np.testing.assert_array_equal(counts.cells[index], expected)
    finite = array[np.isfinite(array)].tolist()
    if finite:
        assert counts.least[0] == min(finite)
        assert counts.greatest[0] == max(finite)
    else:
        assert (counts.least[0], counts.greatest[0]) == (np.inf, -np.inf)


@given(chunks, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_merging_is_exact_in_any_order_and_grouping(
    batches: list[list[float]], random: object
) -> None:
    whole = count([value for batch in batches for value in batch])
    parts = [count(batch) for batch in batches]
    random.shuffle(parts)  # type: ignore[attr-defined]
    left = empty("p", 3)
    for part in parts:
        left += part
    right = empty("p", 3)
    for part in reversed(parts):
        right = part + right

    assert left == right == whole


def test_counts_of_different_profiles_do_not_merge() -> None:
    with pytest.raises(ProfileMismatch, match="do not merge"):
        empty("a" * 64, 3) + empty("b" * 64, 3)


def test_counts_of_other_series_do_not_merge() -> None:
    with pytest.raises(ProfileMismatch):
        empty("a" * 64, 3) + empty("a" * 64, 4)


def test_sums_give_mean_and_spread_to_a_ten_thousandth_of_the_range() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 4, 5000).astype(np.float32)

    counts = count(x.tolist())

    mean = NUMERIC.centre + NUMERIC.unit * counts.sums[0, 0] / len(x)
    square = counts.sums[0, 1] / len(x) * NUMERIC.unit**2
    assert mean == pytest.approx(float(x.mean()), abs=4e-4)
    assert square == pytest.approx(float(np.square(x - NUMERIC.centre).mean()), rel=1e-3)


def observed_in(batches: list[NDArray[np.float32]], rng_seed: int) -> Counts:
    observer = Observer(profiles.reference())
    colours = profiles.colours(np.random.default_rng(rng_seed), sum(map(len, batches)))
    start = 0
    for x in batches:
        observer.observe(profiles.inputs(x, colours[start : start + len(x)]), profiles.answers(x))
        start += len(x)
    return observer.drain()


def test_one_by_one_or_all_at_once_is_the_same() -> None:
    x = profiles.features(np.random.default_rng(2), 257)

    singly = observed_in([x[i : i + 1] for i in range(len(x))], 3)
    at_once = observed_in([x], 3)
    mixed = observed_in([x[:100], x[100:101], x[101:]], 3)

    assert singly == at_once == mixed
    assert singly.rows == 257
