"""The gradient of each operator is PyTorch's."""

from itertools import chain

import onnx
import pytest

from controller.train_step.forms.table import FORMS, Forms
from controller.train_step.rules.table import RULES
from tests.controller.train_step.oracle.engine import found
from tests.controller.train_step.oracle.reference import Reference, read

FAMILIES = (
    "arithmetic", "convolution", "elementwise", "further", "linear", "normalization", "pooling",
    "shapes",
)  # fmt: skip
CASES = list(chain.from_iterable(read(family).values() for family in FAMILIES))

BOUND = 1e-6


@pytest.mark.parametrize("forms", [FORMS, Forms()], ids=["in form", "as it is"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_gradient_is_pytorchs(case: Reference, forms: Forms) -> None:
    given = found(case, tuple(case.tensors), forms)

    assert given.gradients.keys() == case.tensors.keys()
    assert given.error(case) <= BOUND
    assert given.loss == pytest.approx(case.value, rel=BOUND)


def test_every_rule_has_a_case() -> None:
    tried = {
        node.op_type for case in CASES for node in onnx.load_from_string(case.model).graph.node
    }

    assert set(RULES) <= tried
