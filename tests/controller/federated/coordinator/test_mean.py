"""The mean of replies one at a time is Flower's own, within rounding; strategies do their step on it."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.federated.coordinator.flower import strategy_of
from controller.federated.coordinator.mean import WeightedMean, mean_metrics
from controller.federated.coordinator.request import written_arrays
from controller.federated.coordinator.strategy import Update
from controller.federated.plan import Plan
from tests.controller.federated.coordinator.pretend import Floats, plan


def arrays(seed: int) -> dict[str, Floats]:
    draw = np.random.default_rng(seed)
    return {
        "w": draw.normal(size=(5, 4)).astype(np.float32),
        "b": draw.normal(size=4).astype(np.float32),
    }


def mean_of(updates: list[Update]) -> WeightedMean:
    mean = WeightedMean()
    for one in updates:
        mean.add(one.arrays, one.weight)
    return mean


PLANS = {
    name: plan(strategy={"name": name, **given}, training={"proximal": 0.1})
    for name, given in {
        "FedAvg": {},
        "FedProx": {},
        "FedAvgM": {"server_momentum": 0.9, "server_learning_rate": 0.7},
        "FedAdam": {"eta": 0.05},
        "FedYogi": {"eta": 0.05},
        "FedAdagrad": {"eta": 0.05},
    }.items()
}


@pytest.mark.parametrize("found", PLANS.values(), ids=PLANS)
def test_a_strategy_over_the_mean_is_the_strategy_over_all_replies(found: Plan) -> None:
    """Three rounds, so that momentum and moments come in."""
    whole, summed = strategy_of(found, 77), strategy_of(found, 77)
    assert summed.sums
    left = right = arrays(99)
    nodes = [11, 12, 13, 14]
    for round_ in (1, 2, 3):
        updates = [
            Update(node, 10.0 * (at + 1), arrays(round_ * 10 + at), {"train_loss": 0.5})
            for at, node in enumerate(nodes)
        ]
        whole.configure(round_, written_arrays(left), {}, nodes, 0)
        summed.configure(round_, written_arrays(right), {}, nodes, 0)
        mean = mean_of(updates)
        one = Update(0, mean.weight, mean.result(), {})
        left = {
            name: np.asarray(array, np.float32)
            for name, array in whole.aggregate(round_, updates, 0).arrays.items()
        }
        right = {
            name: np.asarray(array, np.float32)
            for name, array in summed.aggregate(round_, [one], 0).arrays.items()
        }
        for name in left:
            np.testing.assert_allclose(right[name], left[name], rtol=2e-5, atol=2e-6)


@given(st.lists(st.floats(0.5, 1e4), min_size=1, max_size=6))
def test_it_is_the_weighted_mean(weights: list[float]) -> None:
    updates = [Update(at, weight, arrays(at), {}) for at, weight in enumerate(weights)]

    found = mean_of(updates).result()

    for name in ("w", "b"):
        stacked = np.stack([one.arrays[name] for one in updates]).astype(np.float64)
        expected = np.average(stacked, axis=0, weights=weights)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7)
        assert found[name].dtype == np.float32


def test_memory_is_that_of_one_model_whatever_the_number_of_replies() -> None:
    size = 200_000

    def peak(count: int) -> int:
        tracemalloc.start()
        mean = WeightedMean()
        for at in range(count):
            mean.add({"w": np.full(size, at, np.float32)}, 1.0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(30) < 1.1 * peak(2)


def test_metrics_are_weighed_and_those_that_few_have_sent_are_left_out() -> None:
    told: list[tuple[float, dict[str, float | list[float]]]] = [
        (1.0, {"loss": 1.0, "num-examples": 1.0, "steps": 1.0}),
        (3.0, {"loss": 2.0, "steps": 4.0, "c": [1.0], "mine": 9.0, "half": 1.0}),
        (4.0, {"loss": 2.0, "half": 1.0}),
        (0.0, {"loss": 7.0, "steps": 7.0}),
    ]

    assert mean_metrics(told) == {"loss": 1.875, "steps": 3.25}
    assert mean_metrics(told[:1]) == {"loss": 1.0, "steps": 1.0}
    assert mean_metrics([]) == {}
