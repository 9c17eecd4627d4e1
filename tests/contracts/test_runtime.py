"""What every runtime promises: the same suite for each."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from agent.errors import InferenceFailed, ModelLoadFailed
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.runtime import Runtime
from protos.documents import sha256
from protos.manifest import Manifest, Tensor
from simulations.memory_runtime import LinearFile, MemoryRuntime
from tests.agent.onnx_models import linear_manifest, linear_model, tensor

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)
X = np.array([[1, 0, 2, 0], [0, 1, 0, -3]], dtype=np.float32)


@dataclass(frozen=True)
class Case:
    runtime: Runtime
    model: bytes


def memory_model() -> bytes:
    rows = tuple(tuple(float(value) for value in row) for row in WEIGHTS)
    return msgspec.json.encode(
        LinearFile(input="x", scores="scores", label="label", weights=rows, bias=(0.0, 0.0, 0.0))
    )


CASES: dict[str, Callable[[], Case]] = {
    "onnx": lambda: Case(OnnxRuntime(), linear_model()),
    "onnx with two threads": lambda: Case(OnnxRuntime(threads=2), linear_model()),
    "memory": lambda: Case(MemoryRuntime(), memory_model()),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


def with_input(manifest: Manifest, wanted: Tensor) -> Manifest:
    return msgspec.structs.replace(manifest, inputs=(wanted,))


def with_output(manifest: Manifest, wanted: Tensor) -> Manifest:
    return msgspec.structs.replace(manifest, outputs=(wanted, *manifest.outputs[1:]))


def test_it_says_what_it_is(case: Case) -> None:
    assert case.runtime.name
    assert case.runtime.version


def test_the_digest_is_that_of_the_bytes_it_was_given(case: Case) -> None:
    model = case.runtime.load(case.model, linear_manifest(case.model))

    assert model.sha256 == sha256(case.model)


def test_outputs_come_in_the_order_asked_for(case: Case) -> None:
    model = case.runtime.load(case.model, linear_manifest(case.model))

    label, scores = model.run({"x": X}, ["label", "scores"])

    np.testing.assert_allclose(scores, X @ WEIGHTS)
    assert scores.dtype == np.float32
    assert label.tolist() == (X @ WEIGHTS).argmax(axis=1).tolist()


def test_one_output_can_be_asked_for_alone(case: Case) -> None:
    model = case.runtime.load(case.model, linear_manifest(case.model))

    assert len(model.run({"x": X}, ["label"])) == 1


def test_many_threads_get_each_their_own_answer(case: Case) -> None:
    model = case.runtime.load(case.model, linear_manifest(case.model))

    def ask(i: int) -> bool:
        x = np.full((1, 4), i, dtype=np.float32)
        return bool(np.allclose(model.run({"x": x}, ["scores"])[0], x @ WEIGHTS))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(200)))


@pytest.mark.parametrize(
    "data", [b"", b"not a model", b"\x80\x04\x95pickle", b"{}", b'{"input": "\xff"}']
)
def test_bytes_that_are_no_model_are_refused(case: Case, data: bytes) -> None:
    with pytest.raises(ModelLoadFailed, match="linear/1"):
        case.runtime.load(data, linear_manifest(case.model))


def test_half_a_model_is_refused(case: Case) -> None:
    with pytest.raises(ModelLoadFailed, match="linear/1"):
        case.runtime.load(case.model[: len(case.model) // 2], linear_manifest(case.model))


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (tensor("pixels", "FP32", -1, 4), "pixels"),
        (tensor("x", "FP64", -1, 4), "FP64"),
        (tensor("x", "FP32", -1, 4, 1), "'x'"),
        (tensor("x", "FP32", -1, 5), "'x'"),
    ],
    ids=["name", "datatype", "rank", "length"],
)
def test_an_input_that_is_not_the_manifests_is_refused(
    case: Case, wanted: Tensor, named: str
) -> None:
    manifest = with_input(linear_manifest(case.model), wanted)

    with pytest.raises(ModelLoadFailed, match=named):
        case.runtime.load(case.model, manifest)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (tensor("probabilities", "FP32", -1, 3), "probabilities"),
        (tensor("scores", "INT64", -1, 3), "INT64"),
        (tensor("scores", "FP32", -1), "'scores'"),
    ],
    ids=["name", "datatype", "rank"],
)
def test_an_output_that_is_not_the_manifests_is_refused(
    case: Case, wanted: Tensor, named: str
) -> None:
    manifest = with_output(linear_manifest(case.model), wanted)

    with pytest.raises(ModelLoadFailed, match=named):
        case.runtime.load(case.model, manifest)


def test_an_input_that_the_manifest_does_not_name_is_refused(case: Case) -> None:
    manifest = msgspec.structs.replace(linear_manifest(case.model), inputs=())

    with pytest.raises(ModelLoadFailed, match="'x'"):
        case.runtime.load(case.model, manifest)


def test_what_the_runtime_fails_on_is_a_typed_error_and_the_model_goes_on(case: Case) -> None:
    model = case.runtime.load(case.model, linear_manifest(case.model))

    with pytest.raises(InferenceFailed):
        model.run({"x": X[:, :2]}, ["scores"])
    with pytest.raises(InferenceFailed):
        model.run({"x": X}, ["nothing of the kind"])
    assert len(model.run({"x": X}, ["scores"])) == 1


def test_a_closed_model_answers_no_more(case: Case) -> None:
    model = case.runtime.load(case.model, linear_manifest(case.model))

    model.close()
    model.close()

    with pytest.raises(InferenceFailed, match="closed"):
        model.run({"x": X}, ["scores"])


def test_closing_one_model_leaves_another_of_the_same_bytes_alone(case: Case) -> None:
    first = case.runtime.load(case.model, linear_manifest(case.model))
    second = case.runtime.load(case.model, linear_manifest(case.model))

    first.close()

    assert second.run({"x": X}, ["label"])[0].shape == (2,)
