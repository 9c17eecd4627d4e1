from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from agent.runtimes.onnx import OnnxRuntime
from controller.errors import BadModel
from controller.registry.onnx_file import read_onnx
from controller.registry.trial import Gauges, Subject, Trial, differing, run
from tests.controller.registry.building import (
    WEIGHTS,
    classifier,
    model_of,
    rows_and_truth,
    unary,
    value,
)

X, _ = rows_and_truth(600)


def ticking(step: float) -> Iterator[float]:
    """A clock that goes on by ``step`` each time that it is read."""
    now = 0.0
    while True:
        yield now
        now += step


def tried(
    model: onnx.ModelProto,
    inputs: dict[str, NDArray[np.float32]],
    seconds: float = 0.001,
    resident: Sequence[int] = (1000, 5_000_000),
) -> Trial:
    data = model.SerializeToString()
    clock, memory = ticking(seconds), iter(resident)
    gauges = Gauges(lambda: next(clock), lambda: next(memory))
    subject = Subject("things", "m.onnx", data, read_onnx(data))
    loaded, trial = run(OnnxRuntime(), subject, inputs, gauges, lambda _what, _share: None)
    loaded.close()
    return trial


def test_every_row_is_answered_as_the_graph_says() -> None:
    trial = tried(classifier(), {"x": X})

    logits = X @ WEIGHTS
    np.testing.assert_array_equal(trial.outputs["label"], logits.argmax(axis=1))
    assert trial.outputs["probabilities"].shape == (600, 3)
    assert trial.not_finite == trial.unsteady == {"label": 0, "probabilities": 0}


def test_cost_is_what_the_gauges_show() -> None:
    trial = tried(classifier(), {"x": X})

    assert trial.latency_p99_seconds == pytest.approx(0.001)
    assert trial.memory_bytes == 4_999_000


def test_a_model_takes_at_least_twice_its_file_where_no_growth_is_seen() -> None:
    trial = tried(classifier(), {"x": X}, resident=(1000, 1000))

    assert trial.memory_bytes == 2 * len(classifier().SerializeToString())


def test_a_model_for_one_row_at_a_time_is_run_row_by_row() -> None:
    trial = tried(unary("Neg", shape=(1, 4)), {"x": X[:30]})

    np.testing.assert_array_equal(trial.outputs["z"], -X[:30])


def test_what_is_not_finite_is_counted() -> None:
    trial = tried(unary("Log"), {"x": np.array([[-1, 0, 1, 2]], np.float32)})

    assert trial.not_finite == {"z": 2}


def test_a_model_that_throws_dice_is_seen_to() -> None:
    model = unary()
    model.graph.node[0].CopyFrom(helper.make_node("RandomNormalLike", ["x"], ["z"]))

    assert tried(model, {"x": X}).unsteady["z"] > 2000


def test_rounding_is_no_difference_and_another_integer_is() -> None:
    one = np.array([1.0, np.nan], np.float32)

    assert differing(one, one * np.float32(1 + 1e-6)) == 0
    assert differing(one, one + np.float32(0.1)) == 1
    assert differing(np.array([1, 2]), np.array([1, 3])) == 1


def test_a_model_that_fails_on_some_rows_is_refused_naming_them() -> None:
    model = model_of(
        [
            helper.make_node("Cast", ["x"], ["at"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "at"], ["z"]),
        ],
        [value("x", TensorProto.FLOAT, ["N", 1])],
        [value("z", TensorProto.FLOAT, ["N", 1])],
        [("table", np.zeros(4, np.float32))],
    )
    x = np.zeros((600, 1), np.float32)
    x[300] = 99

    with pytest.raises(BadModel, match=r"m.onnx: it failed on rows 257 to 512 of the reference: "):
        tried(model, {"x": x})


def test_an_output_that_has_not_one_row_for_each_is_refused() -> None:
    model = model_of(
        [helper.make_node("Compress", ["x", "chosen"], ["z"], axis=0)],
        [value("x", TensorProto.FLOAT, ["N", 4])],
        [value("z", TensorProto.FLOAT, ["N", 4])],
        [("chosen", np.array([True, False, True]))],
    )

    with pytest.raises(BadModel, match=r"m.onnx: output 'z' gave the shape \[2, 4\] for 256 rows"):
        tried(model, {"x": X})


def test_a_model_that_the_runtime_cannot_load_is_refused() -> None:
    # ONNX's checker passes it; onnxruntime has no code for it.
    with pytest.raises(BadModel, match=r"m.onnx: onnxruntime can't load it: "):
        tried(unary("Tan", TensorProto.DOUBLE), {"x": X})
