"""What a train-step file does is known before a runtime is given it."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from agent.federated.errors import StepRefused
from agent.federated.step_file import STEP_BYTES, read_step
from protos.train_step import METADATA_KEY, OUTPUT, Loss, Optimizer
from tests.agent.federated.learners import CLASSES, Learner, classifier, linear

Edit = Callable[[onnx.ModelProto], object]


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier(optimizer=Optimizer.MOMENTUM, proximal=True)


def edited(learner: Learner, edit: Edit) -> bytes:
    model = onnx.ModelProto.FromString(learner.step)
    edit(model)
    return bytes(model.SerializeToString())


def external() -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "far")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def subgraph() -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [])


def node(operator: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, ["x"], ["y"], **attributes)


def test_a_training_step_says_what_it_takes(learner: Learner) -> None:
    file = read_step(learner.step)

    assert file.spec.parameters == learner.spec.parameters
    assert [one.name for one in file.spec.parameters] == ["w1", "b1", "w2", "b2"]
    assert (file.spec.inputs, file.spec.target_shape, file.classes) == (("x",), (-1,), CLASSES)
    assert file.spec.optimizer is Optimizer.MOMENTUM
    assert read_step(linear(2, loss=Loss.MSE).step).spec.target_shape == (-1, 2)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda m: m.graph.node.append(node("RandomUniformLike")), "'RandomUniformLike'"),
        (lambda m: m.graph.node.append(node("If", then_branch=subgraph())), "a graph of its own"),
        (lambda m: m.graph.node.append(node("Relu", body=subgraph())), "a graph of its own"),
        (lambda m: m.graph.node.append(node("Relu", bodies=[subgraph()])), "a graph of its own"),
        (lambda m: m.graph.node.append(node("Loop")), "'Loop'"),
        (lambda m: m.graph.node.append(node("Relu", domain="com.microsoft")), "microsoft::Relu"),
        (lambda m: m.graph.node.append(node("Relu", domain="my.own")), "'my.own::Relu'"),
        (lambda m: m.graph.node.append(node("")), "may train here"),
        (lambda m: m.graph.node.append(node("Relu", value=external())), "in another file"),
        (lambda m: m.graph.initializer.append(external()), "in another file"),
        (lambda m: m.graph.sparse_initializer.add(), "sparse"),
        (lambda m: m.functions.add(name="f", domain="d"), "functions"),
        (lambda m: m.training_info.add(), "functions or training information"),
        (lambda m: m.metadata_props.add(key=METADATA_KEY, value="{}"), "one 'muster.train_step'"),
        (lambda m: m.ClearField("metadata_props"), "one 'muster.train_step'"),
        (lambda m: m.ClearField("graph"), "no ONNX model"),
        (lambda m: setattr(m.metadata_props[0], "value", "{}"), "train step: "),
    ],
)
def test_a_step_that_does_what_none_may_is_refused(learner: Learner, edit: Edit, said: str) -> None:
    with pytest.raises(StepRefused, match=said):
        read_step(edited(learner, edit))


def test_an_operator_that_stands_twice_in_one_node_is_seen_both_times(learner: Learner) -> None:
    """Readers take the last; some might take the first."""
    good, bad = b"\x22\x04Relu", b"\x22\x04Loop"
    for operator in (good + bad, bad + good):
        graph = b"\x0a" + bytes([len(operator)]) + operator
        appended = learner.step + b"\x3a" + bytes([len(graph)]) + graph
        with pytest.raises(StepRefused, match="may train here"):
            read_step(appended)


def test_classes_are_not_guessed(learner: Learner) -> None:
    def hide(model: onnx.ModelProto) -> None:
        (output,) = [one for one in model.graph.output if one.name == OUTPUT]
        output.type.tensor_type.shape.dim[1].dim_param = "classes"

    def name_two(model: onnx.ModelProto) -> None:
        (entry,) = [one for one in model.metadata_props if one.key == METADATA_KEY]
        entry.value = replace(learner.spec, classes=(0, 1)).encode()

    for edit in (hide, name_two):
        with pytest.raises(StepRefused, match="how many classes"):
            read_step(edited(learner, edit))


@pytest.mark.parametrize(
    "data", [b"", b"\x0b", b"\x3a\xff", b"\x3a\x02\x0a", b"\xff" * 20, b"\x3a\x04\x0a\x02\x22\x05"]
)
def test_what_is_no_onnx_file_is_refused(data: bytes) -> None:
    with pytest.raises(StepRefused):
        read_step(data)


def test_a_file_that_is_too_large_is_not_read() -> None:
    with pytest.raises(StepRefused, match="at most"):
        read_step(bytes(STEP_BYTES + 1))


STEP = classifier().step


@settings(max_examples=150)
@given(at=st.integers(0, len(STEP) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(STEP)))
def test_whatever_the_bytes_are_it_is_read_or_refused(at: int, byte: int, cut: int) -> None:
    changed = STEP[:at] + bytes([byte]) + STEP[at + 1 :]
    for data in (changed, STEP[:cut]):
        with contextlib.suppress(StepRefused):
            assert read_step(data).spec.inputs
