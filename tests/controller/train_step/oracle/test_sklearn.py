"""Models of scikit-learn, forgotten and learnt again through the train step, are as good as they were."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from skl2onnx import to_onnx  # type: ignore[import-untyped]
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.linear_model import (  # type: ignore[import-untyped]
    LinearRegression,
    LogisticRegression,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from controller.train_step.build import (
    TrainOptions,
    build_train_step,
    canonical,
    with_parameters,
)
from protos.train_step import LEARNING_RATE, SAMPLE_WEIGHT, TARGET, Loss, next_of
from tests.controller.train_step.oracle.engine import RUNTIME, session_of
from tests.controller.train_step.oracle.reference import Array

ROWS = 1200  # of 1797; the others judge
BATCH = 128


@dataclass(frozen=True, slots=True)
class Task:
    """What is learnt from the digits.

    Attributes:
        truth: what is to be answered, for each row of the data.
        loss: with which it is learnt.
        rate: of learning.
        steps: of a batch each.
        worse: by how much the score may lie below scikit-learn's.
    """

    truth: Array
    loss: Loss
    rate: float
    steps: int
    worse: float


PIXELS, DIGIT = load_digits(return_X_y=True)
PIXELS = (PIXELS / 16).astype(np.float32)
LARGE = (DIGIT > 4).astype(np.int64)

CLASSES = Task(DIGIT.astype(np.int64), Loss.SOFTMAX_CROSS_ENTROPY, 0.5, 400, 0.03)
SCALED = Task(DIGIT.astype(np.int64), Loss.SOFTMAX_CROSS_ENTROPY, 0.05, 400, 0.03)
HALVES = Task(LARGE, Loss.BCE_WITH_LOGITS, 0.5, 400, 0.03)
AMOUNT = Task((DIGIT / 9).astype(np.float32), Loss.MSE, 0.02, 1500, 0.08)

ESTIMATORS = {
    "logistic regression": (LogisticRegression(max_iter=500), CLASSES),
    "scaler and logistic regression": (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        SCALED,
    ),
    "logistic regression of two": (LogisticRegression(max_iter=500), HALVES),
    "perceptron": (MLPClassifier((32,), max_iter=30, random_state=0), CLASSES),
    "perceptron of two": (MLPClassifier((32,), max_iter=30, random_state=0), HALVES),
    "linear regression": (LinearRegression(), AMOUNT),
    "perceptron for regression": (
        MLPRegressor(hidden_layer_sizes=(32,), max_iter=30, random_state=0),
        AMOUNT,
    ),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_model_that_has_forgotten_learns_again(name: str) -> None:
    estimator, task = ESTIMATORS[name]
    estimator.fit(PIXELS[:ROWS], task.truth[:ROWS])
    options = None if task.loss is Loss.MSE else {id(estimator): {"zipmap": False}}
    original = to_onnx(estimator, PIXELS[:1], options=options).SerializeToString()

    model = canonical(original, RUNTIME)
    forgotten, learnt = trained(model, task)

    for expected, given in zip(answers(original), answers(model), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    fitted = score(answers(original)[0], task)
    assert score(answers(forgotten)[0], task) < fitted - 0.2
    assert score(answers(learnt)[0], task) >= fitted - task.worse


def trained(model: bytes, task: Task) -> tuple[bytes, bytes]:
    """The model with random parameters, and after so many steps from there."""
    options = TrainOptions(loss=task.loss, output=logit(model) if task is HALVES else "")
    step = build_train_step(model, options, RUNTIME)
    random = np.random.default_rng(0)
    state = {
        one.name: (random.standard_normal(one.shape) * 0.1).astype(np.float32)
        for one in step.spec.parameters
    }
    forgotten = with_parameters(model, state)
    target = task.truth[:ROWS]
    if task.loss in (Loss.MSE, Loss.BCE_WITH_LOGITS):
        target = target.astype(np.float32)[:, None]
    session = session_of(step.graph)
    wanted = [next_of(name) for name in state]
    fixed = {
        LEARNING_RATE: np.array(task.rate, np.float32),
        SAMPLE_WEIGHT: np.ones(BATCH, np.float32),
    }
    for _ in range(task.steps):
        rows = random.integers(0, ROWS, BATCH)
        data = {step.spec.inputs[0]: PIXELS[rows], TARGET: target[rows]}
        state = dict(zip(state, session.run(wanted, {**fixed, **data, **state}), strict=True))
    return forgotten, with_parameters(model, state)


def logit(model: bytes) -> str:
    """What a classifier of two classes gives: one probability, of which the loss takes the logit."""
    nodes = onnx.load_from_string(model).graph.node
    return next(str(node.output[0]) for node in reversed(nodes) if node.op_type == "Sigmoid")


def answers(model: bytes) -> list[Array]:
    """Every output for the rows that judge."""
    session = session_of(model)
    given = session.run(None, {session.get_inputs()[0].name: PIXELS[ROWS:]})
    return [np.asarray(one) for one in given]


def score(answer: Array, task: Task) -> float:
    """The share of right answers, or for numbers the share of the variance that is explained."""
    truth = task.truth[ROWS:]
    if task.loss is Loss.MSE:
        return float(1 - np.square(answer.ravel() - truth).mean() / truth.var())
    return float((answer.ravel() == truth).mean())
