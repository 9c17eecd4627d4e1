import contextlib
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.errors import MalformedDocument
from agent.inference import golden
from agent.inference.golden import Golden, Tolerance, compare, decode, encode

X = np.arange(6, dtype=np.float32).reshape(2, 3)
LABELS = np.array(["cat", "dog"], dtype=object)


def vectors(**tolerances: Tolerance) -> Golden:
    return Golden({"x": X}, {"y": X * 2, "label": LABELS, "n": np.array([1, 2])}, tolerances)


def with_y(y: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {**vectors().outputs, "y": y}


def test_a_file_brings_back_what_was_put_in() -> None:
    tolerance = Tolerance(1e-6, 1e-3)

    back = decode(encode(vectors(y=tolerance)))

    assert back.inputs["x"].tolist() == X.tolist()
    assert back.outputs["label"].tolist() == ["cat", "dog"]
    assert back.outputs["n"].dtype == np.int64
    assert back.tolerances["y"] == tolerance
    assert back.tolerances["n"] == Tolerance()


def test_the_same_vectors_give_the_same_bytes() -> None:
    assert encode(vectors()) == encode(vectors())


def test_equal_outputs_have_no_objections() -> None:
    assert compare(vectors(), vectors().outputs) == golden.Comparison((), 0.0)


def test_an_output_within_its_tolerance_passes_and_its_difference_is_told() -> None:
    result = compare(vectors(y=Tolerance(absolute=0.5)), with_y(X * 2 + np.float32(0.25)))

    assert result.objections == ()
    assert result.difference == pytest.approx(0.25)


def test_relative_tolerance_grows_with_what_is_expected() -> None:
    off = X * np.float32(2.02)

    assert compare(vectors(y=Tolerance(relative=0.02)), with_y(off)).objections == ()
    assert compare(vectors(y=Tolerance(relative=0.005)), with_y(off)).objections != ()


def test_every_output_that_is_off_is_named_with_its_difference() -> None:
    wrong = {
        "y": X * 2 + np.float32(1.0),
        "label": np.array(["cat", "cow"], dtype=object),
        "n": np.array([1, 5]),
    }

    objections = compare(vectors(), wrong).objections

    assert [text.split(":")[0] for text in objections] == [
        "output 'y'",
        "output 'label'",
        "output 'n'",
    ]
    assert "up to 1" in objections[0]
    assert "up to 3" in objections[2]


@pytest.mark.parametrize(
    ("given", "expected"),
    [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (1.0, math.inf), (-math.inf, math.inf)],
)
def test_what_is_not_finite_differs_from_everything_else(given: float, expected: float) -> None:
    vector = Golden({}, {"y": np.array([expected])}, {"y": Tolerance(1e9, 1e9)})

    result = compare(vector, {"y": np.array([given])})

    assert len(result.objections) == 1
    assert result.difference == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_equals_itself(value: float) -> None:
    vector = Golden({}, {"y": np.array([value])}, {})

    assert compare(vector, {"y": np.array([value])}).objections == ()


def test_integers_of_64_bits_are_compared_exactly() -> None:
    vector = Golden({}, {"n": np.array([2**63 - 1])}, {})

    assert compare(vector, {"n": np.array([2**63 - 2])}).difference == 1.0
    assert compare(vector, {"n": np.array([-(2**63)])}).objections != ()


@pytest.mark.parametrize(
    "y", [X[:1] * 2, (X * 2).astype(np.float64), (X * 2).ravel()], ids=["rows", "dtype", "rank"]
)
def test_another_shape_or_datatype_is_an_objection(y: NDArray[Any]) -> None:
    result = compare(vectors(), with_y(y))

    assert "output 'y'" in result.objections[0]
    assert result.difference == math.inf


def test_a_missing_output_is_an_objection() -> None:
    assert compare(vectors(), {}).objections[0] == "output 'y': missing"


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(0, 400), byte=st.integers(0, 255), keep=st.booleans())
def test_a_damaged_file_is_refused_or_still_made_of_tensors(
    cut: int, byte: int, keep: bool
) -> None:
    data = encode(vectors())
    cut = min(cut, len(data) - 1)
    damaged = data[:cut] + (bytes([byte]) + data[cut + 1 :] if keep else b"")

    with contextlib.suppress(MalformedDocument):
        back = decode(damaged)
        assert all(isinstance(one, np.ndarray) for one in back.inputs.values())
        assert compare(back, back.outputs).objections == ()


def test_pickles_and_archives_are_refused() -> None:
    for data in (b"\x80\x04\x95\x05\0\0\0\0\0\0\0K\x01.", b"PK\x03\x04", b"\x93NUMPY\x01\0"):
        with pytest.raises(MalformedDocument):
            decode(data)


def test_a_file_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(MalformedDocument, match="bytes at most"):
        decode(bytes(golden.GOLDEN_BYTES + 1))


def test_a_tensor_that_claims_more_than_its_bytes_is_refused() -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2**40], "data": b"\0" * 4}
    data = msgspec.msgpack.encode({"inputs": [tensor], "outputs": []})

    with pytest.raises(MalformedDocument, match="'x'"):
        decode(data)


def test_a_tensor_that_stands_there_twice_is_refused() -> None:
    tensor = {"name": "x", "datatype": "INT8", "shape": [1], "data": b"\0"}
    data = msgspec.msgpack.encode({"inputs": [tensor, tensor], "outputs": []})

    with pytest.raises(MalformedDocument, match="twice"):
        decode(data)
