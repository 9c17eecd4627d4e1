"""A version that devices may train: what is asked for, inferred, built, tried, shown and signed for."""

import dataclasses
import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agent.runtimes.onnx import OnnxRuntime
from controller.errors import InvalidInput
from controller.registry import actions
from controller.registry.card import markdown
from controller.registry.class_labels import UnknownLabels, class_labels
from controller.registry.preparation import Prepared, prepare
from controller.registry.registration import Registered, check
from controller.registry.signature import Signature
from controller.registry.training import Shown, Training, options_of, parse_trainable, train_step
from controller.registry.training_text import objections, sentences, spec_of
from controller.registry.trial import Gauges
from controller.train_step.errors import NoGradientRule, TreeEnsemble
from controller.train_step.selection import LastLayers, Trainable
from protos.documents import sha256
from protos.manifest import Role, Semantic, Tensor
from protos.train_step import Loss, Optimizer
from tests.controller.registry.building import FEATURES, WEIGHTS, classifier, model_of, value
from tests.controller.registry.registry import Registry, X, request

ALL = Training(trainable="all", optimizer=Optimizer.MOMENTUM, proximal=True)
MINUS_ONE = np.array([-1], np.int64)


def looked_up(labels: list[int]) -> onnx.ModelProto:
    """A classifier whose label is looked up, as converters write it; its batch is fixed at 1."""
    made = classifier(x=(1, FEATURES))
    del made.graph.node[2]
    made.graph.node.extend(
        [
            helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["labels", "best"], ["label"]),
        ]
    )
    for output, shape in zip(made.graph.output, ((1,), (1, 3)), strict=True):
        kind = output.type.tensor_type.elem_type
        output.CopyFrom(value(output.name, kind, shape))
    made.graph.initializer.append(helper.make_tensor("labels", TensorProto.INT64, [3], labels))
    return made


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """One version that devices may train, to be looked at from all sides."""
    asked = request(looked_up([3, 5, 9]))
    return prepare(
        OnnxRuntime(),
        dataclasses.replace(asked, training=ALL),
        None,
        Gauges(itertools.count().__next__, lambda: 0),
        np.random.default_rng(5),
        actions.silent,
    )


def test_the_train_step_is_a_file_of_the_bundle_for_the_model_that_is_shipped(
    prepared: Prepared,
) -> None:
    spec = spec_of(prepared.files[Role.TRAIN_STEP])

    assert spec == prepared.training
    assert spec.model_sha256 == sha256(prepared.files[Role.MODEL])
    assert [one.name for one in spec.parameters] == ["w"]
    assert (spec.loss, spec.optimizer, spec.proximal) == (
        Loss.SOFTMAX_CROSS_ENTROPY,
        Optimizer.MOMENTUM,
        True,
    )
    assert spec.sample_weight
    assert spec.clip_norm == 10.0
    assert spec.classes == (3, 5, 9)


def test_the_shipped_model_is_the_canonical_one_and_is_what_was_measured(
    prepared: Prepared,
) -> None:
    assert prepared.onnx.opset == 18
    assert not prepared.onnx.row_at_a_time
    assert prepared.signature.inputs[0].shape == (-1, FEATURES)
    assert any("canonical form" in note for note in prepared.notes)


def test_approvers_and_card_are_told_what_devices_may_train(
    prepared: Prepared, registry: Registry
) -> None:
    manifest = registry.insert(prepared, looked_up([3, 5, 9])).manifest
    graph = prepared.files[Role.TRAIN_STEP]

    assert list(objections(manifest, graph)) == []
    (said,) = sentences(manifest, graph)
    assert said == (
        "devices may train 12 numbers of it (w): softmax_cross_entropy by momentum, "
        "held to the global parameters if asked (proximal)"
    )
    with registry.tx() as tx:
        page = markdown(actions.card_of(tx, registry.blobs, "things/1"))
    assert "* training:parameters: w" in page
    assert "* training:classes: 3, 5, 9" in page
    assert f"SHA-256: {manifest.files[Role.MODEL].sha256}" in page


def test_another_train_step_than_the_manifests_is_objected_to(
    prepared: Prepared, registry: Registry
) -> None:
    manifest = registry.insert(prepared, looked_up([3, 5, 9])).manifest
    graph = onnx.ModelProto.FromString(prepared.files[Role.TRAIN_STEP])
    graph.producer_name = "somebody"

    changed = list(objections(manifest, graph.SerializeToString()))

    assert changed == ["its train step is another file than the manifest names"]
    assert list(objections(manifest, b"")) == changed


def test_the_same_model_trained_otherwise_is_another_version(
    prepared: Prepared, registry: Registry
) -> None:
    without = dict(prepared.files)
    del without[Role.TRAIN_STEP]
    registry.insert(
        dataclasses.replace(prepared, files=without, training=None), looked_up([3, 5, 9])
    )

    assert registry.insert(prepared, looked_up([3, 5, 9])).version.version == 2


def test_a_version_is_not_trainable_unless_somebody_says_so(
    one: tuple[Registry, Registered],
) -> None:
    _, registered = one

    assert Role.TRAIN_STEP not in registered.manifest.files
    assert list(sentences(registered.manifest, b"")) == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("all", "all"),
        ("head", "head"),
        ("last:2", LastLayers(2)),
        ("w", ("w",)),
        ("encoder.*, head.weight", ("encoder.*", "head.weight")),
    ],
)
def test_what_is_trainable_is_said_in_a_word(text: str, meant: Trainable) -> None:
    assert parse_trainable(text) == meant


@pytest.mark.parametrize("text", ["", "last:0", "last:two", "last:", "a,,b", ","])
def test_what_says_nothing_trainable_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="all, head, last:K"):
        parse_trainable(text)


@pytest.mark.parametrize(
    "training",
    [
        Training(trainable="all", clip_norm=0.0),
        Training(trainable="all", clip_norm=float("nan")),
        Training(trainable="all", weight_decay=-0.1),
        Training(trainable="all", weight_decay=float("nan")),
    ],
)
def test_numbers_that_can_not_be_are_refused(training: Training) -> None:
    asked = dataclasses.replace(request(classifier()), training=training)

    with pytest.raises(InvalidInput, match=r"weight decay|clip norm"):
        check(asked)


def tensor(name: str, semantic: Semantic, *row: int) -> Tensor:
    return Tensor(name=name, dtype="FP32", shape=(-1, *row), semantic=semantic)


INPUT = tensor("x", Semantic.NUMERIC, 4)


@pytest.mark.parametrize(
    ("outputs", "loss", "output"),
    [
        (
            [tensor("label", Semantic.LABEL), tensor("p", Semantic.PROBABILITY, 3)],
            Loss.SOFTMAX_CROSS_ENTROPY,
            "p",
        ),
        ([tensor("p", Semantic.PROBABILITY)], Loss.BCE_WITH_LOGITS, "p"),
        ([tensor("p", Semantic.PROBABILITY, 1)], Loss.BCE_WITH_LOGITS, "p"),
        (
            [tensor("label", Semantic.LABEL), tensor("logits", Semantic.SCORE, 3)],
            Loss.SOFTMAX_CROSS_ENTROPY,
            "logits",
        ),
        ([tensor("y", Semantic.SCORE, 1)], Loss.MSE, "y"),
        ([tensor("again", Semantic.SCORE, 4)], Loss.RECONSTRUCTION, "again"),
    ],
    ids=["classes", "yes or no", "yes or no in a column", "logits", "regression", "autoencoder"],
)
def test_the_loss_follows_from_the_outputs(outputs: list[Tensor], loss: Loss, output: str) -> None:
    options = options_of(Training(trainable="all"), Signature((INPUT,), tuple(outputs)))

    assert (options.loss, options.output) == (loss, output)


def test_a_loss_that_is_named_goes_first() -> None:
    signature = Signature((INPUT,), (tensor("y", Semantic.SCORE, 1),))

    options = options_of(Training(trainable="all", loss=Loss.HUBER), signature)

    assert (options.loss, options.output) == (Loss.HUBER, "y")


def test_outputs_that_tell_no_loss_are_asked_about() -> None:
    with pytest.raises(InvalidInput, match="name the loss") as caught:
        options_of(
            Training(trainable="all"), Signature((INPUT,), (tensor("z", Semantic.OPAQUE, 9),))
        )

    assert "--loss" in caught.value.remedy


def shown(graph: onnx.ModelProto) -> Shown:
    data = graph.SerializeToString()
    output = Tensor(name="y", dtype="FP32", shape=(-1, 1), semantic=Semantic.SCORE)
    given = {"y": np.zeros((len(X), 1), np.float32)}
    return Shown(data, data, Signature((INPUT,), (output,)), {"x": X}, given)


def test_an_operator_without_a_gradient_is_named() -> None:
    graph = model_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Floor", ["h"], ["f"]),
            helper.make_node("ReduceMax", ["f", "axis"], ["y"], name="top", keepdims=1),
        ],
        [value("x", TensorProto.FLOAT, ("N", FEATURES))],
        [value("y", TensorProto.FLOAT, ("N", 1))],
        [("w", WEIGHTS), ("axis", MINUS_ONE)],
        opset=18,
    )

    with pytest.raises(NoGradientRule, match=r"'top' .ReduceMax."):
        train_step(Training(trainable="all"), shown(graph), OnnxRuntime(), np.random.default_rng(1))


def test_trees_are_refused_by_their_name() -> None:
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_values=[0.0, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[-1.0, 1.0],
    )
    graph = model_of(
        [tree],
        [value("x", TensorProto.FLOAT, ("N", FEATURES))],
        [value("y", TensorProto.FLOAT, ("N", 1))],
        opset=18,
    )
    graph.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))

    with pytest.raises(TreeEnsemble, match="TreeEnsembleRegressor"):
        train_step(Training(trainable="all"), shown(graph), OnnxRuntime(), np.random.default_rng(1))


LABELLED = Signature(
    (INPUT,),
    (
        Tensor(name="label", dtype="INT64", shape=(-1,), semantic=Semantic.LABEL),
        tensor("probabilities", Semantic.PROBABILITY, 3),
    ),
)


def labels(model: onnx.ModelProto, columns: list[int], told: list[int]) -> tuple[int | str, ...]:
    given = {"label": np.array(told), "probabilities": np.eye(3, dtype=np.float32)[columns]}
    return class_labels(model.SerializeToString(), "probabilities", LABELLED, given)


def test_labels_are_those_that_the_file_looks_up_though_not_all_were_seen() -> None:
    assert labels(looked_up([3, 5, 9]), [0, 0, 2], [3, 3, 9]) == (3, 5, 9)


def test_labels_that_are_the_columns_numbers_need_not_be_told() -> None:
    assert labels(classifier(), [0, 2], [0, 2]) == ()
    assert labels(looked_up([0, 1, 2]), [1], [1]) == ()


def test_labels_that_were_all_seen_are_known_without_the_file() -> None:
    assert labels(classifier(), [0, 1, 2], [7, 8, 6]) == (7, 8, 6)


@pytest.mark.parametrize(
    ("columns", "told"), [([0, 1], [7, 8]), ([0, 0], [7, 8])], ids=["not all", "two of one column"]
)
def test_labels_that_can_not_be_told_are_refused(columns: list[int], told: list[int]) -> None:
    with pytest.raises(UnknownLabels, match="do not follow from the columns"):
        labels(classifier(), columns, told)
