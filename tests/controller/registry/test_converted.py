"""Models as scikit-learn's converter writes them, without a hand laid on them."""

from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx  # type: ignore[import-untyped]
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier  # type: ignore[import-untyped]
from sklearn.linear_model import LinearRegression, LogisticRegression  # type: ignore[import-untyped]
from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
from sklearn.tree import DecisionTreeRegressor  # type: ignore[import-untyped]

from controller.registry.onnx_file import read_onnx

RNG = np.random.default_rng(3)
X = RNG.normal(size=(200, 4)).astype(np.float32)
Y = (X @ [1, -1, 0.5, 0]).astype(np.float32)
CLASSES = (Y > 0).astype(np.int64)


@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression(),
        GradientBoostingRegressor(n_estimators=5),
        DecisionTreeRegressor(max_depth=3),
        make_pipeline(StandardScaler(), LinearRegression()),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_regression_is_accepted_as_it_is_converted(estimator: Any) -> None:
    found = read_onnx(to_onnx(estimator.fit(X, Y), X[:1]).SerializeToString())

    assert [one.shape for one in found.inputs] == [(-1, 4)]
    assert [one.dtype for one in found.outputs] == ["FP32"]


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(n_estimators=5),
        MLPClassifier((8,), max_iter=5),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_classifier_is_accepted_as_it_is_converted_without_zipmap(estimator: Any) -> None:
    made = to_onnx(estimator.fit(X, CLASSES), X[:1], options={"zipmap": False})

    found = read_onnx(made.SerializeToString())

    assert [one.dtype for one in found.outputs] == ["INT64", "FP32"]
