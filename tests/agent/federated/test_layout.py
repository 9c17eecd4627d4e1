"""How examples are written as bytes, and of which models they can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.errors import InvalidRequest
from agent.federated.errors import NotCollecting, TruthUnfit
from agent.federated.layout import (
    TRUTH,
    Array,
    Field,
    Layout,
    layout_of,
    packed,
    records,
    truth_of,
)
from protos.manifest import Manifest, Tensor
from protos.train_step import Loss, TrainStepSpec
from tests.agent.federated.learners import Learner, classifier, linear
from tests.agent.onnx_models import tensor


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier()


def asked(learner: Learner, *inputs: Tensor) -> Manifest:
    return replace(learner.manifest, inputs=inputs)


def test_a_model_says_what_its_examples_are_made_of(learner: Learner) -> None:
    layout = layout_of(learner.manifest, learner.spec, 3)

    assert layout.inputs == (Field("x", "FP32", (4,)),)
    assert (layout.truth, layout.classes) == (Field(TRUTH, "INT64", ()), 3)
    assert layout.row_bytes == 4 * 4 + 8
    assert linear(2).layout.truth == Field(TRUTH, "FP32", (2,))
    assert linear(4, loss=Loss.RECONSTRUCTION).layout.truth is None


@pytest.mark.parametrize(
    "given",
    [
        tensor("x", "BYTES", -1, 4),
        tensor("x", "FP32", -1, -1),
        tensor("x", "FP32", 1, 4),
        tensor("x", "FP32", -1, 0),
        tensor("other", "FP32", -1, 4),
    ],
    ids=["texts", "rows of any length", "one row only", "rows of nothing", "no such input"],
)
def test_no_examples_are_kept_of_what_does_not_come_in_rows(
    learner: Learner, given: Tensor
) -> None:
    with pytest.raises(NotCollecting, match="'x'"):
        layout_of(asked(learner, given), learner.spec)


@pytest.mark.parametrize("shape", [(), (3,), (-1, -1), (-1, 0)])
def test_a_target_that_does_not_come_in_rows_is_none(
    learner: Learner, shape: tuple[int, ...]
) -> None:
    spec: TrainStepSpec = replace(learner.spec, target_shape=shape)

    with pytest.raises(NotCollecting, match="a target of shape"):
        layout_of(learner.manifest, spec)


def test_versions_share_examples_unless_they_name_classes_otherwise(learner: Learner) -> None:
    of = learner.manifest, learner.spec
    named = [replace(learner.spec, classes=one) for one in (("a", "b", "c"), ("b", "a", "c"))]

    assert layout_of(*of, 3).key == layout_of(*of, 4).key
    assert len({layout_of(learner.manifest, one).key for one in (learner.spec, *named)}) == 3


MIXED = Layout(
    inputs=(Field("a", "UINT8", (2, 2)), Field("b", "FP64", ()), Field("c", "INT16", (3,))),
    truth=Field(TRUTH, "FP32", (2,)),
)


@given(count=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_what_is_written_is_read_as_it_was(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {
        "a": rng.integers(0, 255, (count, 2, 2)).astype(np.uint8),
        "b": rng.standard_normal(count),
        "c": rng.integers(-99, 99, (count, 3)).astype(np.int16),
    }
    truth = truth_of(MIXED, rng.standard_normal((count, 2)), count)

    data = packed(MIXED, inputs, truth).tobytes()
    again = records(MIXED, data)

    assert len(data) == count * MIXED.row_bytes == count * (4 + 8 + 6 + 8)
    for name, array in inputs.items():
        assert (again[name] == array).all()
    assert (again[TRUTH] == truth).all()


def test_inputs_of_different_batches_make_no_rows() -> None:
    inputs: dict[str, Array] = {
        "a": np.zeros((2, 2, 2), np.uint8),
        "b": np.zeros(3),
        "c": np.zeros((2, 3), np.int16),
    }

    with pytest.raises(InvalidRequest, match="number of rows"):
        packed(MIXED, inputs, None)


def test_a_model_that_is_its_own_target_has_no_truth() -> None:
    with pytest.raises(TruthUnfit, match="its own target"):
        truth_of(linear(4, loss=Loss.RECONSTRUCTION).layout, [1], 1)
