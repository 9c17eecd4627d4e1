from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from controller.train_step.build import build_train_step, canonical, with_parameters
from controller.train_step.check import TOLERANCE, check_canonical, check_train_step
from controller.train_step.errors import SelfCheckFailed
from controller.train_step.options import TrainOptions
from controller.train_step.rules.table import RULES
from controller.train_step.site import Gradients, Rule, Site
from protos.train_step import Loss, Optimizer
from tests.controller.train_step.networks import (
    RUNTIME,
    built,
    cnn,
    mlp,
    network,
    normal,
    transformer,
)

WHOLE = TrainOptions(optimizer=Optimizer.MOMENTUM, proximal=True, weight_decay=0.01, clip_norm=0.5)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize("options", [TrainOptions(sample_weight=False), WHOLE])
@pytest.mark.parametrize("model", [mlp(), cnn(), transformer()])
def test_a_sound_step_passes(model: bytes, options: TrainOptions, rng: np.random.Generator) -> None:
    made, step = built(model, options)

    checked = check_train_step(made, step, rng, RUNTIME)

    assert checked.worst_slope <= TOLERANCE
    assert checked.loss_after < checked.loss_before


@pytest.mark.parametrize("loss", sorted(set(Loss) - {Loss.SOFTMAX_CROSS_ENTROPY}))
def test_it_passes_with_every_loss(loss: Loss, rng: np.random.Generator) -> None:
    text = """
        autoencoder (float[N,6] x) => (float[N,6] y) {
            code = Gemm(x, down)
            bent = Tanh(code)
            y = Gemm(bent, up)
        }
    """
    model = network(text, {"down": normal(6, 4), "up": normal(4, 6)})
    made, step = built(model, TrainOptions(loss=loss))

    assert check_train_step(made, step, rng, RUNTIME).worst_slope <= TOLERANCE


def test_a_model_that_was_not_trained_yet_passes(rng: np.random.Generator) -> None:
    """Its biases are zero, and so is all that is behind an activation of zeros."""
    text = """
        fresh (float[N,4] x) => (float[N,3] y) {
            n = Abs(x)
            m = Neg(n)
            z = Relu(m)
            h = Gemm(z, one, zero)
            r = Relu(h)
            s = Gemm(x, two)
            t = Add(r, s)
            y = Gemm(t, three)
        }
    """
    weights = {
        "one": normal(4, 5),
        "zero": np.zeros(5, np.float32),
        "two": normal(4, 5, seed=1),
        "three": normal(5, 3),
    }
    made, step = built(network(text, weights), TrainOptions(trainable=("zero", "two", "three")))

    assert check_train_step(made, step, rng, RUNTIME).worst_slope <= TOLERANCE


def test_it_can_be_tried_on_rows_of_the_reference(rng: np.random.Generator) -> None:
    made, step = built(mlp(), TrainOptions())

    assert check_train_step(made, step, rng, RUNTIME, {"x": normal(50, 6)}).loss_after > 0


def scaled(operator: str, factor: float) -> Rule:
    """The rule of an operator, but for a factor."""

    def rule(site: Site) -> Gradients:
        e = site.emitter
        given = RULES[operator](site)
        return [one and e.op("Mul", one, e.number(factor)) for one in given]

    return rule


def passed_on(site: Site) -> Gradients:
    """The rule of Identity, which an activation's is not."""
    return [site.gradient]


def half_missing(operator: str) -> Rule:
    """The rule of an operator, but for all behind its first half."""

    def rule(site: Site) -> Gradients:
        e, given = site.emitter, list(RULES[operator](site))
        mask = (np.arange(np.prod(site.static(site.input(1)))) % 2).reshape(
            site.static(site.input(1))
        )
        if given[1]:
            given[1] = e.op("Mul", given[1], e.number(mask))
        return given

    return rule


BROKEN: dict[str, tuple[bytes, dict[str, Rule]]] = {
    "the slope of an activation is forgotten": (mlp(), {"Relu": passed_on}),
    "another activation's slope": (cnn(), {"Tanh": RULES["Sigmoid"]}),
    "twice the gradient": (mlp(), {"Gemm": scaled("Gemm", 2.0)}),
    "the wrong sign": (cnn(), {"Conv": scaled("Conv", -1.0)}),
    "every other weight": (mlp(), {"Gemm": half_missing("Gemm")}),
    "every other kernel": (cnn(), {"Conv": half_missing("Conv")}),
    "a pool spreads to all": (cnn(), {"GlobalAveragePool": scaled("GlobalAveragePool", 16.0)}),
    "a softmax is passed by": (transformer(), {"Softmax": passed_on}),
    "a mean is taken for a sum": (transformer(), {"ReduceMean": scaled("ReduceMean", 5.0)}),
    "a normalization is passed by": (
        transformer(),
        {"LayerNormalization": scaled("LayerNormalization", 0.7)},
    ),
}


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_rule_is_found(
    fault: str, clip_norm: float | None, rng: np.random.Generator
) -> None:
    model, broken = BROKEN[fault]
    rules: Mapping[str, Rule] = {**RULES, **broken}
    options = TrainOptions(clip_norm=clip_norm)
    made = canonical(model, RUNTIME)
    step = build_train_step(made, options, RUNTIME, rules)

    with pytest.raises(SelfCheckFailed, match="is not the slope of the loss") as caught:
        check_train_step(made, step, rng, RUNTIME)
    assert "fault of Muster" in caught.value.remedy


@pytest.mark.parametrize(
    "told",
    [{"weight_decay": 0.5}, {"weight_decay": 0.0}, {"clip_norm": 0.1}],
)
def test_a_step_that_is_not_what_it_says_is_found(
    told: dict[str, float], rng: np.random.Generator
) -> None:
    made, step = built(mlp(), replace(WHOLE, weight_decay=0.2))
    lying = replace(step, spec=msgspec.structs.replace(step.spec, **told))

    with pytest.raises(SelfCheckFailed):
        check_train_step(made, lying, rng, RUNTIME)


def test_a_canonical_model_that_answers_otherwise_is_found(rng: np.random.Generator) -> None:
    made = canonical(mlp(), RUNTIME)
    other = with_parameters(made, {"b_bias": normal(3, seed=9)})

    assert check_canonical(mlp(), made, rng, RUNTIME) <= 1e-6
    with pytest.raises(SelfCheckFailed, match="output 'logits' of the canonical model is off"):
        check_canonical(mlp(), other, rng, RUNTIME)
