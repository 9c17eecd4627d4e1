"""A process that trains the same model with PyTorch, eagerly. Arguments as of ``device``."""

import sys

import torch  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.bench.answering import answer
from tests.controller.train_step.oracle.generate import models

BATCH = 32


def main() -> None:
    """Forward, loss, backward, plain descent; normalisation by fixed statistics, as on devices."""
    _, name, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = models.made(name)
    x, target = models.batch(name, BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss_of = models.KINDS[name].loss_of

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model(x), x, target).backward()
        optimizer.step()

    answer(step)


if __name__ == "__main__":
    main()
