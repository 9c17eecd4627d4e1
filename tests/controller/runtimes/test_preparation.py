"""Real child processes before real models, and before models that were made to do harm."""

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.runtimes.onnx import OnnxRuntime
from controller.errors import BadModel, BadReference, ControllerError, InvalidInput
from controller.registry.bundle import Demands
from controller.registry.gates import MinimumRows
from controller.registry.preparation import Parent, prepare
from controller.registry.registration import Registration
from controller.registry.training import Training
from controller.registry.trial import Gauges
from controller.runtimes.preparation import ProcessPreparation
from controller.train_step.errors import NoParameters
from protos.limits import MIB
from protos.manifest import Budgets, Manifest, Needs, Role, Semantic
from tests.controller.registry.building import classifier, npz, rows_and_truth

X, Y = rows_and_truth(400)
REFERENCE = npz(x=X, y=Y)


def asked(graph: onnx.ModelProto, **changes: object) -> Registration:
    request = Registration("things", graph.SerializeToString(), REFERENCE)
    return dataclasses.replace(request, **changes)  # type: ignore[arg-type]


def test_it_prepares_what_would_be_prepared_here() -> None:
    request = asked(
        classifier(),
        gates=MinimumRows(1000),
        demands=Demands(memory_bytes=1 << 30),
        training=Training(trainable="all"),
    )
    first = prepare(
        OnnxRuntime(),
        request,
        None,
        Gauges(lambda: 0.0, lambda: 0),
        np.random.default_rng(7),
        lambda _what, _share: None,
    )
    manifest = Manifest(
        model="things",
        version=4,
        release_counter=4,
        inputs=first.signature.inputs,
        outputs=first.signature.outputs,
        files={},
        needs=Needs(),
        budgets=Budgets(latency_p99_seconds=1.0, memory_bytes=1),
    )

    apart = ProcessPreparation(lambda: np.random.default_rng(7))
    prepared = apart(request, Parent(manifest, request.onnx))

    assert prepared.onnx == first.onnx
    assert prepared.signature == first.signature
    assert prepared.metrics == first.metrics
    for role in (Role.MODEL, Role.GOLDEN, Role.TRAIN_STEP):
        assert prepared.files[role] == first.files[role]
    assert prepared.training == first.training is not None
    assert prepared.reference_rows == 400
    objections = [request.gates.objections(one.candidate) for one in (prepared, first)]
    assert objections[0] == objections[1] != ()
    assert prepared.candidate.metrics == first.candidate.metrics
    assert prepared.candidate.parent == "things/4"
    assert prepared.measured.memory_bytes > 0
    assert prepared.parent == 4


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (asked(classifier(), onnx=b"\x80\x04pickled"), BadModel, "pickle"),
        (asked(classifier(), reference=b"PK nothing"), BadReference, "reference.npz"),
        (asked(classifier(), semantics={"z": Semantic.IMAGE}), InvalidInput, "'z'"),
        (asked(classifier(), training=Training(trainable="z.*")), NoParameters, "'z.*'"),
    ],
)
def test_what_is_refused_there_is_refused_here(
    request_: Registration, error: type[ControllerError], said: str
) -> None:
    with pytest.raises(error, match=said):
        ProcessPreparation()(request_, None)


def constant(name: str, values: object, dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def endless() -> onnx.ModelProto:
    """A loop of 2^62 turns."""
    scalar = [helper.make_tensor_value_info(*one, []) for one in (("i", 7), ("c", 9))]
    held = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    after = [
        helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v2", TensorProto.FLOAT, None),
    ]
    turn = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Neg", ["v"], ["v2"])]
    body = helper.make_graph(turn, "body", [*scalar, held], after)
    nodes = [
        helper.make_node("Loop", ["turns", "on", "x"], ["z"], body=body),
        helper.make_node("Identity", ["z"], ["y"]),
    ]
    return bomb(nodes, constant("turns", 2**62, np.int64), constant("on", 1, np.bool_))


def enormous() -> onnx.ModelProto:
    """2^33 numbers, in a shape that only running tells."""
    nodes = [
        helper.make_node("Exp", ["logarithms"], ["sides"]),
        helper.make_node("Cast", ["sides"], ["shape"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return bomb(nodes, constant("logarithms", np.log([2.0**17 + 1, 2.0**16 + 1]), np.float64))


def doubling() -> onnx.ModelProto:
    """Shape inference, which follows small constants, ends up with 2^30 of them."""
    nodes = [
        helper.make_node("Concat", [f"c{at}", f"c{at}"], [f"c{at + 1}"], axis=0) for at in range(20)
    ]
    nodes += [
        helper.make_node("ReduceSum", ["c20"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "number"], ["y"]),
    ]
    return bomb(nodes, constant("c0", np.ones(1024), np.int64))


def bomb(nodes: list[onnx.NodeProto], *constants: onnx.TensorProto) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", ports[:1], ports[1:], list(constants))
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("make", [endless, enormous, doubling])
def test_a_model_that_was_made_to_do_harm_takes_down_its_own_process_only(
    make: Callable[[], onnx.ModelProto],
) -> None:
    apart = ProcessPreparation(seconds=4, memory_bytes=512 * MIB)
    request = asked(make(), reference=npz(x=np.ones((50, 4), np.float32)))

    with pytest.raises(BadModel, match=r"^model\.onnx: "):
        apart(request, None)
