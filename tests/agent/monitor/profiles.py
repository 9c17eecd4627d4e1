"""Reference profiles for tests, made as registration makes them, and windows to hold against them."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.monitor.counts import Counts
from agent.monitor.observer import Observer
from agent.monitor.reference import Policy, Reference
from controller.monitor.registration import build_reference
from protos.manifest import Semantic, Tensor

FEATURES = Tensor(name="x", dtype="FP32", shape=(-1, 3), semantic=Semantic.NUMERIC)
COLOUR = Tensor(name="colour", dtype="BYTES", shape=(-1,), semantic=Semantic.CATEGORICAL)
SCORE = Tensor(name="score", dtype="FP32", shape=(-1, 1), semantic=Semantic.SCORE)
COLOURS = ("blue", "green", "red")
SHARES = (0.2, 0.3, 0.5)
ROWS = 2000


def features(
    rng: np.random.Generator, rows: int, shift: float = 0.0, scale: float = 1.0
) -> NDArray[np.float32]:
    """Three features: normal, log-normal, and five discrete values."""
    x = np.empty((rows, 3), np.float32)
    x[:, 0] = rng.normal(size=rows) * scale + shift
    x[:, 1] = np.exp(rng.normal(size=rows))
    x[:, 2] = rng.integers(0, 5, rows)
    return x


def colours(rng: np.random.Generator, rows: int, shares: Any = SHARES) -> NDArray[np.object_]:
    return np.array([str(one) for one in rng.choice(COLOURS, rows, p=shares)], object)


def answers(x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """What the model would answer: a score of the first two features."""
    return {"score": (x[:, :1] + 0.1 * x[:, 1:2]).astype(np.float32)}


@cache
def reference(n_min: int = 300, t_min_seconds: float = 10.0) -> Reference:
    rng = np.random.default_rng(11)
    x = features(rng, ROWS)
    policy = Policy(n_min=n_min, t_min_seconds=t_min_seconds)
    arrays = {"x": x, "colour": colours(rng, ROWS)}
    return build_reference((FEATURES, COLOUR), (SCORE,), arrays, answers(x), rng, policy)


def inputs(x: NDArray[np.float32], colour: NDArray[np.object_]) -> dict[str, NDArray[Any]]:
    return {"x": x, "colour": colour}


def window(
    rng: np.random.Generator,
    rows: int,
    *,
    shift: float = 0.0,
    shares: Any = SHARES,
    profile: Reference | None = None,
) -> Counts:
    """Counts of one window of fresh data."""
    observer = Observer(profile or reference())
    x = features(rng, rows, shift)
    observer.observe(inputs(x, colours(rng, rows, shares)), answers(x))
    return observer.drain()
