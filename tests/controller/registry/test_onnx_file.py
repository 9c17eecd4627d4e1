"""A file is read as a model that devices may run, or refused by name; nothing else."""

import pickle
from collections.abc import Callable

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from controller.errors import BadModel, TooLarge
from controller.registry.onnx_file import read_onnx
from controller.registry.onnx_ports import Port
from tests.controller.registry.bad_onnx import (
    BAD_MODELS,
    GOOD,
    OTHER_FILES,
    PICKLED,
    branch_of,
    branching,
    custom_operator,
    external,
    imported_twice,
)
from tests.controller.registry.building import (
    CLASSES,
    FEATURES,
    WEIGHTS,
    classifier,
    examined,
    unary,
    value,
)


def test_a_good_file_says_what_it_takes_and_gives() -> None:
    found = read_onnx(GOOD)

    assert found.inputs == (Port("x", "FP32", (-1, FEATURES)),)
    assert found.outputs == (
        Port("label", "INT64", (-1,)),
        Port("probabilities", "FP32", (-1, CLASSES)),
    )
    assert (found.opset, found.ml_opset, found.ir_version) == (17, 0, 8)
    assert found.operators == ("ArgMax", "MatMul", "Softmax")
    assert found.parameters == WEIGHTS.size
    assert found.length == len(GOOD)
    assert not found.row_at_a_time


def test_initializers_that_older_files_list_as_inputs_are_no_inputs() -> None:
    model = classifier()
    model.graph.input.append(value("w", TensorProto.FLOAT, list(WEIGHTS.shape)))

    assert [one.name for one in examined(model).inputs] == ["x"]


def test_an_output_without_a_shape_gets_the_one_that_follows_from_the_graph() -> None:
    model = classifier()
    model.graph.output[1].type.tensor_type.ClearField("shape")

    assert examined(model).outputs[1] == Port("probabilities", "FP32", (-1, CLASSES))


def test_a_model_for_one_row_at_a_time_is_served() -> None:
    assert examined(unary(shape=(1, 3, 16, 16))).row_at_a_time


@pytest.mark.parametrize(("data", "reason"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_what_is_no_onnx_file_is_called_by_its_name(data: bytes, reason: str) -> None:
    with pytest.raises(BadModel) as refused:
        read_onnx(data, "m.onnx")

    assert refused.value.detail.startswith("m.onnx: ")
    assert reason in refused.value.detail


def test_a_file_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge, match=r"m.onnx: \d+ bytes; a model has 100 at most"):
        read_onnx(pickle.dumps(PICKLED) + bytes(100), "m.onnx", max_bytes=100)


def test_a_small_file_that_would_take_much_memory_is_refused_before_it_is_parsed() -> None:
    graph = b"\x0a\x00" * 1_001  # empty nodes, of two bytes each
    length = onnx.OperatorSetIdProto(version=len(graph)).SerializeToString()[1:]

    with pytest.raises(BadModel, match="more than 1,000 fields"):
        read_onnx(b"\x08\x08\x3a" + length + graph, max_fields=1_000)


def test_endless_nesting_is_refused_before_it_is_parsed() -> None:
    graph = b""
    for _ in range(40):  # graph > node > attribute > graph > ...
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            size = onnx.OperatorSetIdProto(version=len(graph)).SerializeToString()[1:]
            graph = tag + size + graph
    size = onnx.OperatorSetIdProto(version=len(graph)).SerializeToString()[1:]

    with pytest.raises(BadModel, match="nested more than 64 deep"):
        read_onnx(b"\x08\x08\x3a" + size + graph)


@pytest.mark.parametrize(("build", "reason"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_a_model_that_may_not_run_is_refused_with_its_reason(
    build: Callable[[], onnx.ModelProto], reason: str
) -> None:
    with pytest.raises(BadModel) as refused:
        read_onnx(build().SerializeToString(), "m.onnx")

    assert refused.value.detail.startswith("m.onnx: ")
    assert reason in refused.value.detail


def test_every_reason_of_a_step_is_told_at_once() -> None:
    model = custom_operator()
    model.graph.initializer.append(external("w.bin"))

    with pytest.raises(BadModel, match=r"FusedGelu.*; .*another file"):
        read_onnx(model.SerializeToString())


def test_control_flow_without_anything_forbidden_is_accepted() -> None:
    found = examined(branching(branch_of(helper.make_node("Neg", ["x"], ["b"]))))

    assert found.operators == ("Cast", "If", "Neg", "ReduceSum")


def test_an_operator_set_that_is_named_twice_alike_is_accepted() -> None:
    assert examined(imported_twice(17)).opset == 17


def test_texts_are_served_as_bytes() -> None:
    assert examined(unary("Identity", TensorProto.STRING)).inputs[0].dtype == "BYTES"


@settings(max_examples=150, deadline=None)
@given(
    cuts=st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    end=st.integers(0, len(GOOD)),
)
def test_a_mutated_file_is_read_or_refused_and_nothing_else(
    cuts: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(GOOD)
    for at, byte in cuts:
        data[at] = byte

    for one in (bytes(data), bytes(data[:end])):
        assert refusal(one).startswith(("model.onnx: ", "accepted"))


def refusal(data: bytes) -> str:
    try:
        return f"accepted: {read_onnx(data).length}"
    except BadModel as refused:
        return refused.detail


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadModel):
        read_onnx(data)
