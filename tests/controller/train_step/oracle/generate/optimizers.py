"""Parameters after some steps of PyTorch's own optimiser."""

from collections.abc import Iterator
from typing import Final

import torch  # type: ignore[import-not-found]
from torch.nn import functional  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.generate.case import leaf
from tests.controller.train_step.oracle.generate.network import Network, rows
from tests.controller.train_step.oracle.recipes import (
    LEARNING_RATE,
    RECIPES,
    STEPS,
    Recipe,
    anchor,
)
from tests.controller.train_step.oracle.reference import Reference

CLASSES: Final = 5
ROWS: Final = 32


def optimizers() -> Iterator[Reference]:
    """Every recipe; ``tensors`` are the parameters, ``value`` the loss before the first step."""
    for name, recipe in RECIPES.items():
        yield reference(name, recipe)


def reference(name: str, recipe: Recipe) -> Reference:
    """Some steps over the same batch."""
    network = Network(CLASSES)
    x, random = rows(ROWS, "optimizers")
    target = random.integers(0, CLASSES, ROWS)
    start = network.parameters()
    leaves = {key: leaf(one) for key, one in start.items()}
    optimizer = torch.optim.SGD(
        leaves.values(),
        lr=LEARNING_RATE,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    values = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        output = network.in_torch(torch.tensor(x).double(), leaves)
        loss = functional.cross_entropy(output, torch.tensor(target))
        loss.backward()
        values.append(loss.item())
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(leaves.values(), recipe.clip_norm)
        for key, one in leaves.items():
            pull = one.detach() - torch.tensor(anchor(start[key])).double()
            one.grad += recipe.proximal * pull
        optimizer.step()
    return Reference(
        name=name,
        model=network.model(),
        loss="softmax_cross_entropy",
        inputs={"x": x},
        target=target,
        value=values[0],
        tensors={key: one.detach().numpy() for key, one in leaves.items()},
    )
