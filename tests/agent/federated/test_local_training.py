"""The loop over a graph: which rows it is fed, in which order, and what is made of its answers."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from agent.federated.errors import NotFinite, WorseOnHoldOut
from agent.federated.evaluation import Evaluation
from agent.federated.layout import TRUTH, Field, Layout
from agent.federated.local_training import evaluate, known_classes, train
from agent.federated.rejection import check_no_worse
from agent.federated.trainer import Bounds, Plan
from protos.train_step import (
    LEARNING_RATE,
    LOSS,
    MOMENTUM,
    OUTPUT,
    PROXIMAL,
    SAMPLE_WEIGHT,
    TARGET,
    Loss,
    Optimizer,
    Parameter,
    TrainStepSpec,
    anchor_of,
    momentum_of,
    next_momentum_of,
    next_of,
)

Array = NDArray[Any]
LAYOUT = Layout(inputs=(Field("x", "FP32", (1,)),), truth=Field(TRUTH, "INT64", ()), classes=2)
SPEC = TrainStepSpec(
    model_sha256="0" * 64, loss=Loss.SOFTMAX_CROSS_ENTROPY, optimizer=Optimizer.MOMENTUM,
    parameters=(Parameter("w", (2,)),), inputs=("x",), target_shape=(-1,), sample_weight=True,
    proximal=True,
)  # fmt: skip
START = {"w": np.array([1.0, 2.0], np.float32)}


@dataclass
class Noting:
    """A step that adds its learning rate to every parameter, and notes what it was fed."""

    spec: TrainStepSpec = SPEC
    classes: int = 2
    fed: list[Mapping[str, Array]] = field(default_factory=list)
    loss: float = 0.5

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> Sequence[Array]:
        self.fed.append(feeds)
        rows = len(feeds["x"])
        found: dict[str, Array] = {
            LOSS: np.asarray(self.loss, np.float32),
            OUTPUT: np.zeros((rows, 2), np.float32),
            next_of("w"): feeds["w"] + feeds[LEARNING_RATE],
        }
        if MOMENTUM in feeds:
            found[next_momentum_of("w")] = feeds[momentum_of("w")] + 1
        return [found[name] for name in outputs]


def rows(count: int) -> Array:
    made = np.zeros(count, LAYOUT.dtype)
    made["x"] = np.arange(count, dtype=np.float32)[:, None]
    made[TRUTH] = np.arange(count) % 2
    return made


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def seen(step: Noting) -> list[list[float]]:
    """The inputs of each step, without padding."""
    return [
        fed["x"][fed.get(SAMPLE_WEIGHT, np.ones(len(fed["x"]))) > 0, 0].tolist() for fed in step.fed
    ]


def test_every_row_is_seen_once_in_an_epoch_and_the_last_batch_is_padded() -> None:
    step = Noting()

    trained = train(step, START, rows(10), Plan(epochs=2, batch=4, learning_rate=0.5), rng())

    assert [len(one["x"]) for one in step.fed] == [4] * 6
    assert [fed[SAMPLE_WEIGHT].tolist() for fed in step.fed[2::3]] == [[1, 1, 0, 0]] * 2
    batches = seen(step)
    for epoch in (batches[:3], batches[3:]):
        assert sorted(itertools.chain(*epoch)) == list(range(10))
    assert batches[:3] != batches[3:]
    assert all((one[TARGET] == one["x"][:, 0] % 2).all() for one in step.fed)
    assert trained.steps == 6
    assert trained.parameters["w"].tolist() == [4.0, 5.0]


def test_momentum_begins_at_zero_and_anchors_stay_at_what_came() -> None:
    step = Noting()

    train(step, START, rows(6), Plan(batch=2, momentum=0.9, proximal=0.1), rng())

    assert [fed[momentum_of("w")].tolist() for fed in step.fed] == [[0, 0], [1, 1], [2, 2]]
    assert all(fed[anchor_of("w")] is START["w"] for fed in step.fed)
    for name, value in [(MOMENTUM, 0.9), (PROXIMAL, 0.1)]:
        assert step.fed[0][name].shape == ()
        assert step.fed[0][name] == np.float32(value)


def test_a_step_without_weights_is_given_the_short_batch_as_it_is() -> None:
    plain = replace(SPEC, sample_weight=False, proximal=False, optimizer=Optimizer.SGD)
    step = Noting(plain)

    train(step, START, rows(5), Plan(batch=4), rng())

    assert [len(one["x"]) for one in step.fed] == [4, 1]
    assert step.fed[0].keys() == {"w", "x", TARGET, LEARNING_RATE}


def test_a_batch_is_no_larger_than_what_there_is() -> None:
    step = Noting()

    train(step, START, rows(3), Plan(batch=32, epochs=2), rng())

    assert [len(one["x"]) for one in step.fed] == [3, 3]


def test_the_order_is_the_generators() -> None:
    one, same, other = Noting(), Noting(), Noting()
    for step, seed in [(one, 1), (same, 1), (other, 2)]:
        train(step, START, rows(20), Plan(batch=4), rng(seed))

    assert seen(one) == seen(same) != seen(other)


@pytest.mark.parametrize("most", [1, 4])
def test_a_bound_of_steps_ends_within_an_epoch(most: int) -> None:
    step = Noting()

    trained = train(step, START, rows(10), Plan(epochs=9, batch=4, most_steps=most), rng())

    assert trained.steps == len(step.fed) == most


def test_a_loss_or_a_parameter_that_is_not_finite_is_rejected() -> None:
    with pytest.raises(NotFinite, match="step 1 "):
        train(Noting(loss=float("inf")), START, rows(4), Plan(), rng())
    with pytest.raises(NotFinite, match="'w' is not finite after 1 steps"):
        train(Noting(), START, rows(4), Plan(learning_rate=float("inf")), rng())
    with pytest.raises(NotFinite, match="hold-out"):
        evaluate(Noting(loss=float("nan")), START, rows(4))


def test_an_evaluation_moves_nothing_and_counts_no_padding() -> None:
    step = Noting()

    found = evaluate(step, START, rows(130))

    assert all(fed[LEARNING_RATE] == 0 and fed["w"] is START["w"] for fed in step.fed)
    assert seen(step) == [list(range(64)), list(range(64, 128)), [128, 129]]
    assert (found.examples, found.correct, found.loss) == (130, 65, 0.5)
    assert evaluate(Noting(), START, rows(0)).examples == 0


def test_rows_of_a_class_that_the_model_does_not_have_are_left_out() -> None:
    odd = rows(4)
    odd[TRUTH] = [0, 5, -1, 1]

    assert known_classes(SPEC, 2, odd)[TRUTH].tolist() == [0, 1]
    assert len(known_classes(SPEC, 0, odd)) == 4
    assert len(known_classes(SPEC, 2, odd[:0])) == 0


@pytest.mark.parametrize(
    ("was", "became", "fits"),
    [
        (1.0, 1.24, True),
        (1.0, 1.31, False),
        (0.0, 0.05, True),
        (0.0, 0.06, False),
        (2.0, 0.1, True),
    ],
)
def test_the_loss_on_the_hold_out_may_grow_within_a_bound(
    was: float, became: float, fits: bool
) -> None:
    bounds = Bounds(worse_by=0.25, worse_by_more=0.05)
    before, after = (Evaluation(examples=10, loss_sum=10 * one) for one in (was, became))

    if fits:
        check_no_worse(bounds, before, after)
    else:
        with pytest.raises(WorseOnHoldOut, match="10 held-out examples"):
            check_no_worse(bounds, before, after)
    check_no_worse(bounds, Evaluation(), Evaluation())
