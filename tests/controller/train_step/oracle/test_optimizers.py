"""Five steps lead where PyTorch's optimiser leads."""

import numpy as np
import pytest

from controller.train_step.build import (
    TrainOptions,
    build_train_step,
    canonical,
    parameters_of,
)
from protos.train_step import (
    LEARNING_RATE,
    LOSS,
    MOMENTUM,
    PROXIMAL,
    Optimizer,
    anchor_of,
    momentum_of,
    next_momentum_of,
    next_of,
)
from tests.controller.train_step.oracle.engine import RUNTIME, batch, distance, session_of
from tests.controller.train_step.oracle.recipes import LEARNING_RATE as RATE
from tests.controller.train_step.oracle.recipes import RECIPES, STEPS, Recipe, anchor
from tests.controller.train_step.oracle.reference import Array, Reference, read

REFERENCES = read("optimizers")

BOUND = 1e-6


@pytest.mark.parametrize("name", RECIPES)
def test_the_parameters_are_pytorchs(name: str) -> None:
    reference = REFERENCES[name]

    parameters, loss = after_steps(reference, RECIPES[name])

    assert parameters.keys() == reference.tensors.keys()
    worst = max(distance(parameters[key], one) for key, one in reference.tensors.items())
    assert worst <= BOUND
    assert loss == pytest.approx(reference.value, rel=BOUND)


def after_steps(reference: Reference, recipe: Recipe) -> tuple[dict[str, Array], float]:
    """The parameters, and the loss before the first step."""
    options = TrainOptions(
        optimizer=Optimizer.MOMENTUM if recipe.momentum else Optimizer.SGD,
        proximal=bool(recipe.proximal),
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        sample_weight=False,
    )
    model = canonical(reference.model, RUNTIME)
    step = build_train_step(model, options, RUNTIME)
    parameters: dict[str, Array] = dict(parameters_of(model, reference.tensors))
    state = {
        **parameters,
        **{momentum_of(key): np.zeros_like(one) for key, one in parameters.items()},
    }
    fixed = {
        **batch(reference, step),
        **{anchor_of(key): anchor(one) for key, one in parameters.items()},
        LEARNING_RATE: np.array(RATE, np.float32),
        MOMENTUM: np.array(recipe.momentum, np.float32),
        PROXIMAL: np.array(recipe.proximal, np.float32),
    }
    session = session_of(step.graph)
    taken = {one.name for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    losses = []
    for _ in range(STEPS):
        feed = {key: one for key, one in {**fixed, **state}.items() if key in taken}
        given = dict(zip(names, session.run(names, feed), strict=True))
        losses.append(float(given[LOSS]))
        for key in parameters:
            state[key] = given[next_of(key)]
            if recipe.momentum:
                state[momentum_of(key)] = given[next_momentum_of(key)]
    return {key: state[key] for key in parameters}, losses[0]
