"""Whole models, as exporters write them: PyTorch's gradients, and the same answers as before."""

from itertools import chain

import numpy as np
import pytest

from controller.train_step.build import canonical
from tests.controller.train_step.oracle.engine import RUNTIME, found, session_of
from tests.controller.train_step.oracle.reference import Reference, read

# Seven models with variants, four of them in five operator sets, and five for one sample at a time.
FILES = ("models", "opsets", "fixed_batches")
MODELS = list(chain.from_iterable(read(file).values() for file in FILES))

BOUND = 2e-6

# How many initializers are trained: a convolution that has taken in a normalisation has its two, and
# the positions of a transformer count where they are not cut to an open length.
TRAINED = {
    "autoencoder": {8},
    "convolutional 28x28": {6, 8},
    "convolutional 8x8": {6, 8},
    "logistic regression": {2},
    "mobile": {16, 23},
    "perceptron": {6},
    "transformer": {15, 16},
}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_gradient_is_pytorchs(model: Reference) -> None:
    given = found(model)

    assert len(given.gradients) in TRAINED[model.name.partition(",")[0]]
    assert given.error(model) <= BOUND
    assert given.loss == pytest.approx(model.value, rel=BOUND)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_canonical_model_answers_as_the_original(model: Reference) -> None:
    original, made = session_of(model.model), session_of(canonical(model.model, RUNTIME))
    rows = model.inputs["x"][:2]
    one_at_a_time = original.get_inputs()[0].shape[0] == 1
    asked = [rows[:1], rows[1:]] if one_at_a_time else [rows]

    expected = np.concatenate([original.run(None, {"x": some})[0] for some in asked])

    np.testing.assert_allclose(made.run(None, {"x": rows})[0], expected, rtol=1e-6, atol=1e-6)


def test_there_are_all_models() -> None:
    assert len(MODELS) >= 42
