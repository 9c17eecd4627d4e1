import numpy as np
import pytest
from numpy.typing import NDArray

from agent.monitor.counts import empty
from agent.monitor.observer import Observer
from controller.monitor.summary import SeriesSummary, summaries
from tests.agent.monitor import profiles

REFERENCE = profiles.reference()
ROWS = 500


def seen(x: NDArray[np.float32], colour: NDArray[np.object_]) -> dict[str, SeriesSummary]:
    observer = Observer(REFERENCE)
    observer.observe(profiles.inputs(x, colour), profiles.answers(x))
    return {one.name: one for one in summaries(REFERENCE, observer.drain())}


def test_figures_are_those_of_the_data() -> None:
    rng = np.random.default_rng(5)
    x, colour = profiles.features(rng, ROWS, shift=1.5), profiles.colours(rng, ROWS)

    found = seen(x, colour)

    for index in range(3):
        now, values = found[f"x[{index}]"].now, x[:, index].astype(np.float64)
        assert now.rows == ROWS
        assert (now.missing, now.infinite) == (0.0, 0.0)
        assert now.mean == pytest.approx(values.mean(), rel=1e-3, abs=1e-3)
        assert now.spread == pytest.approx(values.std(), rel=1e-3, abs=1e-3)
        assert (now.least, now.greatest) == (values.min(), values.max())
        assert sum(now.shares) + now.outside == pytest.approx(1.0)
    assert found["score"].side == "output"


def test_categories_are_counted_by_name_and_have_no_mean() -> None:
    colour = np.array(["red"] * 300 + ["blue"] * 150 + ["pink"] * 50, object)

    found = seen(profiles.features(np.random.default_rng(6), ROWS), colour)["colour"]

    assert dict(zip(found.cells, found.now.shares, strict=True)) == {
        "blue": 0.3,
        "green": 0.0,
        "red": 0.6,
    }
    assert found.now.outside == pytest.approx(0.1)
    assert (found.now.mean, found.now.spread, found.now.least) == (None, None, None)
    assert sum(found.reference.shares) == pytest.approx(1.0)


def test_missing_and_infinite_values_are_shares_of_all_rows() -> None:
    x = profiles.features(np.random.default_rng(7), ROWS)
    x[:50, 0], x[50:75, 0] = np.nan, np.inf

    now = seen(x, np.array(["red"] * ROWS, object))["x[0]"].now

    assert (now.missing, now.infinite) == (0.1, 0.05)
    assert now.mean == pytest.approx(x[75:, 0].mean(), abs=1e-3)
    assert now.greatest == x[75:, 0].max()


def test_of_nothing_there_are_no_figures() -> None:
    counts = empty(REFERENCE.digest, len(REFERENCE.series))

    for one in summaries(REFERENCE, counts):
        assert (one.now.rows, one.now.mean, one.now.least, one.now.greatest) == (
            0,
            None,
            None,
            None,
        )
        assert set(one.now.shares) == {0.0}
        assert one.reference.rows == profiles.ROWS
