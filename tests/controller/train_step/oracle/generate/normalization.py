"""Cases of operators that normalise."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch  # type: ignore[import-not-found]
from torch.nn import functional  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.generate.case import Case, node

MEAN = np.array([0.125, 0.25, -0.25], np.float32)
VARIANCE = np.array([0.5, 1, 2], np.float32)


def cases() -> Iterator[Case]:
    """Softmax along an axis, batch normalisation with fixed statistics, layer normalisation."""
    for axis in (-1, 1):
        for name, in_torch in {
            "Softmax": torch.softmax,
            "LogSoftmax": torch.log_softmax,
        }.items():
            yield Case(
                f"{name} along {axis}",
                (node(name, ["h"], ["out"], axis=axis),),
                (4, 5),
                partial(in_torch, dim=axis),
            )
    yield batch_norm("BatchNormalization", (3, 5, 5), 1e-3)
    yield batch_norm("BatchNormalization of rows", (3,), 1e-5)
    yield Case(
        "LayerNormalization",
        (node("LayerNormalization", ["h", "s", "b"], ["out"], axis=-1),),
        (4, 6),
        lambda h, s, b: functional.layer_norm(h, (6,), s, b),
        weights={"s": (6,), "b": (6,)},
    )
    yield Case(
        "LayerNormalization over two axes",
        (node("LayerNormalization", ["h", "s"], ["out"], axis=2),),
        (3, 4, 6),
        lambda h, s: functional.layer_norm(h, (4, 6), s),
        weights={"s": (4, 6)},
    )


def batch_norm(name: str, shape: tuple[int, ...], epsilon: float) -> Case:
    """Batch normalisation as at inference."""
    mean, variance = torch.tensor(MEAN).double(), torch.tensor(VARIANCE).double()
    return Case(
        name,
        (node("BatchNormalization", ["h", "s", "b", "m", "v"], ["out"], epsilon=epsilon),),
        shape,
        lambda h, s, b: functional.batch_norm(h, mean, variance, s, b, eps=epsilon),
        weights={"s": (3,), "b": (3,)},
        constants={"m": MEAN, "v": VARIANCE},
    )
