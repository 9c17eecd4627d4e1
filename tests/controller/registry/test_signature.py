import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from controller.errors import BadModel, InvalidInput
from controller.registry.onnx_file import OnnxFile
from controller.registry.onnx_ports import UNKNOWN, Port
from controller.registry.signature import infer, parse_overrides
from protos.manifest import Semantic, Tensor
from tests.controller.registry.building import examined, unary

RNG = np.random.default_rng(11)
ROWS = 60
SHARES = RNG.dirichlet(np.ones(3), ROWS).astype(np.float32)


def file_of(*, inputs: tuple[Port, ...] = (), outputs: tuple[Port, ...] = ()) -> OnnxFile:
    some = examined(unary(kind=TensorProto.FLOAT))
    return OnnxFile(inputs or some.inputs, outputs, 17, 0, 8, ("Relu",), 0, 100, "")


def input_of(dtype: str, array: NDArray[np.generic]) -> Tensor:
    port = Port("x", dtype, (-1, *array.shape[1:]))
    return infer(file_of(inputs=(port,)), {"x": array}, {}, {}).inputs[0]


def outputs_of(**outputs: NDArray[np.generic]) -> dict[str, Semantic]:
    names = {"f": "FP32", "i": "INT64", "b": "BOOL", "O": "BYTES"}
    ports = tuple(
        Port(name, names[array.dtype.kind], (-1, *array.shape[1:]))
        for name, array in outputs.items()
    )
    found = infer(file_of(outputs=ports), {"x": np.zeros((ROWS, 4), np.float32)}, outputs, {})
    return {one.name: one.semantic for one in found.outputs}


@pytest.mark.parametrize(
    ("dtype", "array", "semantic"),
    [
        ("FP32", RNG.random((ROWS, 8, 8), np.float32), Semantic.IMAGE),
        ("UINT8", RNG.integers(0, 255, (ROWS, 3, 32, 24)).astype(np.uint8), Semantic.IMAGE),
        ("FP32", RNG.random((ROWS, 32, 24, 1), np.float32), Semantic.IMAGE),
        ("FP32", RNG.random((ROWS, 5, 16), np.float32), Semantic.NUMERIC),
        ("FP32", RNG.random((ROWS, 7, 16, 16), np.float32), Semantic.OPAQUE),
        ("FP32", RNG.random((ROWS, 4), np.float32), Semantic.NUMERIC),
        ("FP64", RNG.random(ROWS), Semantic.NUMERIC),
        ("FP32", RNG.random((ROWS, 600), np.float32), Semantic.OPAQUE),
        ("INT64", RNG.integers(0, 5, (ROWS, 2)), Semantic.CATEGORICAL),
        ("INT64", RNG.integers(0, 10**6, (ROWS, 2)), Semantic.NUMERIC),
        ("BOOL", RNG.random((ROWS, 2)) > 0.5, Semantic.CATEGORICAL),
        ("BYTES", np.full((ROWS, 2), "a", dtype=object), Semantic.CATEGORICAL),
    ],
)
def test_inputs_get_the_meaning_that_their_shape_and_values_show(
    dtype: str, array: NDArray[np.generic], semantic: Semantic
) -> None:
    assert input_of(dtype, array).semantic is semantic


@pytest.mark.parametrize(
    ("outputs", "semantics"),
    [
        ({"label": np.arange(ROWS), "p": SHARES}, [Semantic.LABEL, Semantic.PROBABILITY]),
        ({"answer": np.arange(ROWS), "p": SHARES}, [Semantic.LABEL, Semantic.PROBABILITY]),
        ({"answer": np.arange(ROWS)}, [Semantic.SCORE]),
        ({"predicted_class": np.arange(ROWS)[:, None]}, [Semantic.LABEL]),
        ({"name": np.full(ROWS, "cat", dtype=object)}, [Semantic.LABEL]),
        ({"z": SHARES * 3}, [Semantic.SCORE]),
        ({"z": SHARES - 0.5}, [Semantic.SCORE]),
        ({"z": SHARES[:, 0]}, [Semantic.SCORE]),
        ({"probability": SHARES[:, :1]}, [Semantic.PROBABILITY]),
        ({"probability": SHARES[:, :1] * 9}, [Semantic.SCORE]),
        ({"map": RNG.random((ROWS, 4, 4)).astype(np.float32)}, [Semantic.OPAQUE]),
    ],
)
def test_outputs_get_the_meaning_that_their_values_show(
    outputs: dict[str, NDArray[np.generic]], semantics: list[Semantic]
) -> None:
    assert list(outputs_of(**outputs).values()) == semantics


def test_the_range_is_that_of_the_finite_values_of_the_reference() -> None:
    array = np.array([[1.0, np.nan], [np.inf, -2.5]], dtype=np.float32)

    found = input_of("FP32", array)

    assert (found.minimum, found.maximum, found.nullable) == (-2.5, 1.0, True)
    nothing = input_of("FP32", np.full((4, 1), np.nan, np.float32))
    assert (nothing.minimum, nothing.maximum, nothing.nullable) == (None, None, True)


def test_what_the_file_does_not_tell_of_an_outputs_shape_the_run_does() -> None:
    file = file_of(outputs=(Port("a", "FP32", None), Port("b", "FP32", (-1, UNKNOWN))))
    outputs = {"a": SHARES, "b": SHARES[:, :2]}

    found = infer(file, {"x": np.zeros((ROWS, 4), np.float32)}, outputs, {}).outputs

    assert [one.shape for one in found] == [(-1, 3), (-1, 2)]


@pytest.mark.parametrize("array", [SHARES[:10], SHARES[:, :2], SHARES[:, 0], np.float32(1)])
def test_an_output_of_another_shape_than_the_file_says_is_refused(
    array: NDArray[np.float32],
) -> None:
    file = file_of(outputs=(Port("p", "FP32", (-1, 3)),))

    with pytest.raises(BadModel, match=r"model.onnx: output 'p' gave"):
        infer(file, {"x": np.zeros((ROWS, 4), np.float32)}, {"p": np.asarray(array)}, {})


@pytest.mark.parametrize(
    ("outputs", "task"),
    [
        ({"label": np.arange(ROWS)}, "classification"),
        ({"p": SHARES}, "classification"),
        ({"z": SHARES[:, 0]}, "regression"),
        ({"z": SHARES * 2}, ""),
    ],
)
def test_the_task_follows_from_the_outputs(
    outputs: dict[str, NDArray[np.generic]], task: str
) -> None:
    ports = tuple(
        Port(name, "INT64" if array.dtype.kind == "i" else "FP32", (-1, *array.shape[1:]))
        for name, array in outputs.items()
    )
    x = np.zeros((ROWS, 4), np.float32)

    assert infer(file_of(outputs=ports), {"x": x}, outputs, {}).task == task


def test_an_override_goes_before_what_was_inferred() -> None:
    file = file_of(outputs=(Port("z", "FP32", (-1, 3)),))
    overrides = parse_overrides(["x=opaque", "z=score"])

    found = infer(file, {"x": np.zeros((ROWS, 4), np.float32)}, {"z": SHARES}, overrides)

    assert found.inputs[0].semantic is Semantic.OPAQUE
    assert found.outputs[0].semantic is Semantic.SCORE


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("q=image", "override 'q': no such tensor; there are x, z"),
        ("x=image", "an image has two axes"),
        ("x=label", "label is for outputs"),
        ("z=label", "a label is one value a row"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(override: str, reason: str) -> None:
    file = file_of(outputs=(Port("z", "FP32", (-1, 3)),))
    x = np.zeros((ROWS, 4), np.float32)

    with pytest.raises(InvalidInput, match=reason):
        infer(file, {"x": x}, {"z": SHARES}, parse_overrides([override]))


@pytest.mark.parametrize("text", ["x", "x=", "=image", "x=picture"])
def test_an_override_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not NAME=MEANING"):
        parse_overrides([text])
