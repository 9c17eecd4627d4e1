"""The gradient of each operator is PyTorch's."""

from itertools import chain

import pytest

from tests.controller.train_step.oracle.engine import found
from tests.controller.train_step.oracle.reference import Reference, read

FAMILIES = (
    "arithmetic", "convolution", "elementwise", "linear", "normalization", "pooling", "shapes",
)  # fmt: skip
CASES = list(chain.from_iterable(read(family).values() for family in FAMILIES))

BOUND = 1e-6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_gradient_is_pytorchs(case: Reference) -> None:
    given = found(case, tuple(case.tensors))

    assert given.gradients.keys() == case.tensors.keys()
    assert given.error(case) <= BOUND
    assert given.loss == pytest.approx(case.value, rel=BOUND)


def test_there_are_all_cases() -> None:
    assert len(CASES) >= 181
