"""scikit-learn's digits, and how they lie on devices that have not seen the same."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

CLASSES: Final = 10
PIXELS: Final = 64
GREYS: Final = 16
TEST_SHARE: Final = 0.25
FEWEST: Final = 4
"""A device to which a partition gives fewer rows gets so many more, of anybody's."""

IID: Final = "IID"
TWO_SHARDS: Final = "two shards"
PARTITIONS: Final[dict[str, float | None]] = {
    IID: None,
    "Dirichlet 0.5": 0.5,
    "Dirichlet 0.1": 0.1,
    TWO_SHARDS: None,
}
"""By name; the concentration where classes are spread over devices by a Dirichlet distribution."""

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Digits:
    """Images as [N, 64] from 0 to 1, and what they show; 1,347 to learn from and 450 to test on."""

    images: Images
    labels: Labels
    test_images: Images
    test_labels: Labels


@functools.cache
def digits() -> Digits:
    """Split the same way every time, and evenly over the ten digits."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        (images / GREYS).astype(np.float32),
        labels.astype(np.int64),
        test_size=TEST_SHARE,
        random_state=0,
        stratify=labels,
    )
    return Digits(parts[0], parts[2], parts[1], parts[3])


def partition(name: str, labels: Labels, devices: int, seed: int) -> Sequence[Rows]:
    """Which rows each device has; every row is on one device."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    if name == IID:
        return np.array_split(order, devices)
    if name == TWO_SHARDS:
        return _shards(order, labels, devices, rng)
    concentration = PARTITIONS[name]
    if concentration is None:
        raise KeyError(name)
    return _dirichlet(order, labels, devices, concentration, rng)


def _shards(order: Rows, labels: Labels, devices: int, rng: np.random.Generator) -> Sequence[Rows]:
    """Two runs of rows sorted by class to each: McMahan 2017's pathological case."""
    shards = np.array_split(order[np.argsort(labels[order], kind="stable")], 2 * devices)
    dealt = rng.permutation(2 * devices)
    return [
        np.concatenate([shards[dealt[2 * one]], shards[dealt[2 * one + 1]]])
        for one in range(devices)
    ]


def _dirichlet(
    order: Rows, labels: Labels, devices: int, concentration: float, rng: np.random.Generator
) -> Sequence[Rows]:
    parts: list[list[Rows]] = [[] for _ in range(devices)]
    for label in range(CLASSES):
        rows = order[labels[order] == label]
        shares = rng.dirichlet([concentration] * devices)
        cuts = (np.cumsum(shares)[:-1] * len(rows)).astype(np.int64)
        for part, some in zip(parts, np.split(rows, cuts), strict=True):
            part.append(some)
    found = [np.concatenate(part) for part in parts]
    return [
        one if len(one) >= FEWEST else np.concatenate([one, rng.choice(order, FEWEST)])
        for one in found
    ]
