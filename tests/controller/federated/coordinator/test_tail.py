"""The mean of the last global models."""

import numpy as np
import pytest
from numpy.typing import NDArray

from controller.federated.coordinator import checkpoint
from controller.federated.coordinator.tail import Tail

ROUNDS = 10
Floats = NDArray[np.float32]


def model(value: float) -> dict[str, Floats]:
    rng = np.random.default_rng(int(value))
    near = (value + rng.standard_normal((3, 2)) / 8).astype(np.float32)
    return {"weight": near, "bias": np.full(2, value, np.float32)}


MODELS = [model(number) for number in range(1, ROUNDS + 1)]


def taken(found: Tail, first: int = 1, last: int = ROUNDS) -> Tail:
    for number in range(first, last + 1):
        found.take(number, MODELS[number - 1])
    return found


@pytest.mark.parametrize(("share", "count"), [(0.2, 2), (0.21, 3), (0.3, 3), (0.7, 7), (1.0, 10)])
def test_it_is_of_the_last_share_of_all_rounds(share: float, count: int) -> None:
    found = taken(Tail(ROUNDS, share)).mean()

    assert list(found) == ["weight", "bias"]
    for name, array in found.items():
        mean = np.mean([one[name] for one in MODELS[-count:]], axis=0, dtype=np.float64)
        assert array.dtype == np.float32
        assert np.array_equal(array, mean.astype(np.float32))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_of_one_or_none_there_is_no_mean(share: float) -> None:
    assert taken(Tail(ROUNDS, share)).mean() == {}


def test_it_goes_on_from_what_was_kept_to_the_same_bits() -> None:
    whole, cut = taken(Tail(ROUNDS, 0.5)).mean(), Tail(ROUNDS, 0.5)

    cut.restore(checkpoint.read(checkpoint.written(taken(Tail(ROUNDS, 0.5), last=7).state())))
    found = taken(cut, first=8).mean()

    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in whole.items()
    }


def test_before_the_last_rounds_nothing_is_kept() -> None:
    assert taken(Tail(ROUNDS, 0.5), last=5).state() == {"count": 0, "sums": {}}


def test_large_parameters_have_a_mean() -> None:
    found, huge = Tail(2, 1.0), np.full(2, 3e38, np.float32)

    found.take(1, {"weight": huge})
    found.take(2, {"weight": huge})

    assert np.array_equal(found.mean()["weight"], huge)
