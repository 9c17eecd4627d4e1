import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from controller.candidate.errors import NoCandidate
from controller.candidate.grid import rounded, size_of, steps_between
from controller.candidate.model import parameters_of, stepped
from controller.candidate.parameter_data import Float32s
from protos.model_step import applied

WEIGHTS: Float32s = np.random.default_rng(7).normal(size=(64, 32)).astype(np.float32)
BIAS = np.zeros(32, np.float32)


def model(**initializers: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32])],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return bytes(made.SerializeToString())


OLD: dict[str, Float32s] = {"w": WEIGHTS, "b": BIAS}
PARENT = model(w=WEIGHTS, b=BIAS)


def moved(scale: float = 0.1) -> dict[str, Float32s]:
    """What training might leave: many small steps, a few large ones, biases that began at zero."""
    steps = np.random.default_rng(8).standard_t(4, size=WEIGHTS.shape).astype(np.float32)
    return {"w": WEIGHTS + np.float32(scale) * steps, "b": BIAS + np.float32(scale)}


def test_the_model_is_the_parent_moved_to_what_was_trained() -> None:
    trained = moved()

    made = stepped(PARENT, trained)

    onnx.checker.check_model(made.onnx)
    got = {
        one.name: numpy_helper.to_array(one)
        for one in onnx.ModelProto.FromString(made.onnx).graph.initializer
    }
    off = {name: np.max(np.abs(got[name] - array)) for name, array in trained.items()}
    assert made.largest == max(off.values())
    grid = np.max(np.abs(trained["w"] - WEIGHTS)) / made.levels  # of all tensors
    assert made.largest <= 0.501 * grid
    assert applied(PARENT, made.step, len(PARENT)) == made.onnx


def test_the_grid_is_the_finest_whose_step_is_small_enough() -> None:
    trained = moved()

    fine, coarse = stepped(PARENT, trained, aim=1.0), stepped(PARENT, trained, aim=0.1)

    assert fine.levels == 127
    assert coarse.levels < 127
    assert coarse.share < 0.13 < fine.share
    assert fine.largest < coarse.largest


def test_where_no_grid_is_small_enough_the_coarsest_is_taken() -> None:
    anything = np.random.default_rng(9).uniform(-1, 1, WEIGHTS.shape).astype(np.float32)

    assert stepped(PARENT, {"w": anything}, aim=0.001).levels == 10


def test_no_finer_grid_would_have_been_small_enough() -> None:
    found = steps_between(OLD, moved(), aim=0.1)

    finer = steps_between(OLD, moved(), aim=0.11)

    assert 127 > finer.levels > found.levels
    assert size_of(found) <= 0.1 * sum(one.nbytes for one in OLD.values()) < size_of(finer)


def test_a_model_of_a_few_numbers_gets_the_finest_grid() -> None:
    tiny = model(b=BIAS[:12])

    assert stepped(tiny, {"b": np.arange(12, dtype=np.float32)}).levels == 127


def test_what_is_rounded_is_to_the_bit_what_the_file_has() -> None:
    ready = rounded(OLD, moved())

    made = stepped(PARENT, moved())

    shapes = {name: array.shape for name, array in OLD.items()}
    for name, array in parameters_of(made.onnx, shapes).items():
        assert array.tobytes() == ready[name].tobytes()


def test_a_parameter_that_did_not_move_stays_bit_for_bit() -> None:
    made = stepped(PARENT, {"w": WEIGHTS, "b": BIAS + np.float32(1)})

    assert np.array_equal(parameters_of(made.onnx, {"w": (64, 32)})["w"], WEIGHTS)
    assert parameters_of(made.onnx, {"b": (32,)})["b"] == pytest.approx(1.0)


def test_other_parameters_than_the_trained_are_the_parents() -> None:
    made = stepped(PARENT, {"b": BIAS + np.float32(1)})

    assert np.array_equal(parameters_of(made.onnx, {"w": (64, 32)})["w"], WEIGHTS)
    assert made.share < 0.05


@pytest.mark.parametrize(
    ("trained", "says"),
    [
        ({"v": BIAS}, "no float32 initializer 'v'"),
        ({"b": np.zeros(31, np.float32)}, "'b' has 31 numbers; in the parent 32"),
        ({"b": np.full(32, np.nan, np.float32)}, "'b' has numbers that are not finite"),
        ({"b": np.full(32, np.inf, np.float32)}, "'b' has numbers that are not finite"),
    ],
)
def test_what_does_not_fit_the_parent_is_named(trained: dict[str, Float32s], says: str) -> None:
    with pytest.raises(NoCandidate, match=says):
        stepped(PARENT, trained)


def test_numbers_that_are_not_kept_as_raw_data_are_refused() -> None:
    listed = onnx.ModelProto.FromString(PARENT)
    tensor = listed.graph.initializer[1]
    tensor.CopyFrom(helper.make_tensor("b", TensorProto.FLOAT, [32], BIAS.tolist()))

    with pytest.raises(NoCandidate, match="no float32 initializer 'b' with raw data"):
        stepped(bytes(listed.SerializeToString()), {"b": BIAS})


def test_a_file_that_is_cut_short_is_refused() -> None:
    with pytest.raises(NoCandidate, match="no ONNX file"):
        stepped(PARENT[:-100], {"b": BIAS})
