"""Every loss over batches of one, of few and of many, with weights of samples and without."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import numpy as np
import torch  # type: ignore[import-not-found]
from torch.nn import functional  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.generate.case import leaf
from tests.controller.train_step.oracle.generate.network import INPUTS, Network, rows
from tests.controller.train_step.oracle.reference import Array, Reference

OUTPUTS: Final = 5
NETWORKS: Final = {
    "softmax_cross_entropy": Network(OUTPUTS),
    "nll": Network(OUTPUTS, ends_in_logarithms=True),
    "bce_with_logits": Network(OUTPUTS),
    "mse": Network(OUTPUTS),
    "mae": Network(OUTPUTS),
    "huber": Network(OUTPUTS),
    "reconstruction": Network(INPUTS),
}
# Of each element, or where the target is a class of each row.
IN_TORCH: Final = {
    "softmax_cross_entropy": functional.cross_entropy,
    "nll": functional.nll_loss,
    "bce_with_logits": functional.binary_cross_entropy_with_logits,
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
    "reconstruction": functional.mse_loss,
}


def losses() -> Iterator[Reference]:
    """Seven losses, three sizes, weighted or not."""
    for loss, size, weighted in product(NETWORKS, (1, 7, 64), (False, True)):
        yield reference(loss, size, weighted=weighted)


def reference(loss: str, size: int, *, weighted: bool) -> Reference:
    """One loss; of weighted samples, the last of several has the weight 0, as padding has."""
    network = NETWORKS[loss]
    name = f"{loss} of {size}{', weighted' if weighted else ''}"
    x, random = rows(size, name)
    target = target_of(loss, size, random)
    weight = np.zeros(0, np.float32)
    if weighted:
        weight = (random.random(size) + 0.1).astype("f")
        weight[-1] = weight[-1] if size == 1 else 0
    leaves = {key: leaf(one) for key, one in network.parameters().items()}
    value = mean(loss, network.in_torch(torch.tensor(x).double(), leaves), x, target, weight)
    value.backward()
    return Reference(
        name=name,
        model=network.model(),
        loss=loss,
        inputs={"x": x},
        target=target,
        value=value.item(),
        tensors={key: one.grad.numpy() for key, one in leaves.items()},
        sample_weight=weight,
    )


def target_of(loss: str, size: int, random: np.random.Generator) -> Array:
    """Classes, bits, or numbers on both sides of where Huber's loss turns to a line."""
    match loss:
        case "softmax_cross_entropy" | "nll":
            return random.integers(0, OUTPUTS, size)
        case "bce_with_logits":
            return (random.random((size, OUTPUTS)) < 0.5).astype("f")
        case "reconstruction":
            return np.zeros(0, np.float32)
        case _:
            return random.standard_normal((size, OUTPUTS)).astype("f")


def mean(loss: str, output: Any, x: Array, target: Array, weight: Array) -> Any:
    """PyTorch's loss of each row, and their weighted mean."""
    truth = torch.tensor(x if loss == "reconstruction" else target)
    truth = truth.double() if truth.is_floating_point() else truth
    if not len(weight):
        return IN_TORCH[loss](output, truth)
    each = IN_TORCH[loss](output, truth, reduction="none")
    of_rows = each.mean(1) if each.dim() > 1 else each
    weights = torch.tensor(weight).double()
    return (of_rows * weights).sum() / weights.sum()
