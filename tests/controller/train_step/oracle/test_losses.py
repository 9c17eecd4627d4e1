"""The seven losses and their gradients are PyTorch's, weighted or not."""

import pytest

from protos.train_step import Loss
from tests.controller.train_step.oracle.engine import found
from tests.controller.train_step.oracle.reference import Reference, read

LOSSES = list(read("losses").values())

BOUND = 1e-6


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_gradient_is_pytorchs(loss: Reference) -> None:
    given = found(loss)

    assert given.gradients.keys() == loss.tensors.keys()
    assert given.error(loss) <= BOUND
    assert given.loss == pytest.approx(loss.value, rel=BOUND)


def test_there_are_all_losses() -> None:
    assert {loss.loss for loss in LOSSES} == set(Loss)
