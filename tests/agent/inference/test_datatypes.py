import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from agent.errors import InvalidRequest
from agent.inference.datatypes import (
    DATATYPES,
    MAX_RANK,
    datatype_of,
    from_json,
    from_raw,
    from_values,
    to_json,
    to_raw,
)

NUMBERS = sorted(set(DATATYPES) - {"BYTES"})
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn) -> NDArray[Any]:
    if draw(st.booleans()):
        shape = draw(SHAPES)
        texts = draw(
            st.lists(st.text(), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
        )
        array = np.empty(len(texts), dtype=object)
        array[:] = texts
        return array.reshape(shape)
    return draw(hnp.arrays(DATATYPES[draw(st.sampled_from(NUMBERS))].numpy, SHAPES))


@settings(max_examples=150, deadline=None)
@given(array=tensors())
def test_raw_bytes_bring_back_every_tensor(array: NDArray[Any]) -> None:
    datatype = datatype_of(array.dtype)

    back = from_raw("x", datatype, array.shape, to_raw(array))

    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert to_raw(back) == to_raw(array)


@settings(max_examples=150, deadline=None)
@given(array=tensors(), nested=st.booleans())
def test_json_brings_back_every_finite_tensor_flat_or_nested(
    array: NDArray[Any], nested: bool
) -> None:
    datatype = datatype_of(array.dtype)
    if datatype == "FP16":
        return
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, posinf=1.0, neginf=-1.0)
    values = array.tolist() if nested and array.ndim and array.size else to_json(array)

    back = from_json("x", datatype, array.shape, json.dumps(values).encode())

    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert to_raw(back) == to_raw(array)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT64", "[1.5]"),
        ("INT64", "[1.0]"),
        ("INT64", "[true]"),
        ("INT64", '["1"]'),
        ("INT64", "[null]"),
        ("INT64", "[9223372036854775808]"),
        ("INT8", "[128]"),
        ("INT8", "[-129]"),
        ("UINT8", "[256]"),
        ("UINT8", "[-1]"),
        ("UINT64", "[-1]"),
        ("UINT64", "[18446744073709551616]"),
        ("BOOL", "[1]"),
        ("BOOL", '["true"]'),
        ("FP32", "[true]"),
        ("FP32", '["1.0"]'),
        ("FP32", "[1e39]"),
        ("FP64", "[1e400]"),
        ("FP64", "[NaN]"),
        ("BYTES", "[1]"),
        ("BYTES", "[null]"),
        ("FP32", "{}"),
        ("FP32", "1"),
        ("FP32", '"AAAA"'),
        ("FP32", "[[[1]]]"),
        ("FP32", "[1"),
        ("FP32", "[" * 300 + "1" + "]" * 300),
    ],
)
def test_nothing_is_coerced_from_json(datatype: str, data: str) -> None:
    with pytest.raises(InvalidRequest, match="input 'x'"):
        from_json("x", datatype, [1, 1], data.encode())


def test_text_in_json_is_utf8() -> None:
    with pytest.raises(InvalidRequest, match="utf-8"):
        from_json("x", "BYTES", [1], b'["\xff"]')


def test_the_error_says_which_element_is_wrong() -> None:
    with pytest.raises(InvalidRequest, match=r"\$\[1\]\[0\]"):
        from_json("x", "INT64", [2, 1], b"[[1], [2.5]]")


def test_null_among_floating_point_values_is_nan() -> None:
    array = from_json("x", "FP32", [1, 2], b"[null, 1.5]")

    assert np.isnan(array[0, 0])
    assert array[0, 1] == 1.5


@pytest.mark.parametrize("largest", [2**64 - 1, 0])
def test_the_ends_of_uint64_are_exact(largest: int) -> None:
    array = from_json("x", "UINT64", [1], json.dumps([largest]).encode())

    assert int(array[0]) == largest


@pytest.mark.parametrize(
    ("shape", "data"),
    [([3], b"[1, 2]"), ([2, 2], b"[1, 2, 3]"), ([2, 2], b"[[1, 2], [3]]"), ([2, 2], b"[[1],[2]]")],
)
def test_a_shape_that_the_data_do_not_have_is_refused(shape: list[int], data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="input 'x'"):
        from_json("x", "FP32", shape, data)


def test_data_nested_in_another_order_than_the_shape_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="input 'x'"):
        from_json("x", "FP32", [2, 3], b"[[1, 2], [3, 4], [5, 6]]")


def test_more_axes_than_any_model_has_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="axes"):
        from_json("x", "FP32", [1] * (MAX_RANK + 1), b"[1]")


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param([10**300] * MAX_RANK, id="a product of more digits than can be printed"),
        pytest.param([1] * 100_000, id="axes without end"),
        pytest.param([0, 2**62], id="an axis longer than memory"),
    ],
)
def test_a_shape_that_no_tensor_has_is_refused_before_it_is_multiplied(shape: list[int]) -> None:
    with pytest.raises(InvalidRequest, match=r"^input 'x': (shape: an axis|\d+ axes)"):
        from_raw("x", "FP32", shape, b"")
    with pytest.raises(InvalidRequest, match=r"^input 'x': (shape: an axis|\d+ axes)"):
        from_values("x", "FP32", shape, [])


@pytest.mark.parametrize("data", [b"", b"\0" * 15, b"\0" * 17])
def test_raw_data_of_another_length_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"FP32 \[2, 2\] has 16"):
        from_raw("x", "FP32", [2, 2], data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\0\0",
        b"\x05\0\0\0abc",
        b"\xff\xff\xff\xffabc",
        struct.pack("<I", 1) + b"a" + b"\x01",
        struct.pack("<I", 2) + b"\xff\xfe",
    ],
)
def test_texts_that_are_cut_off_or_no_text_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="input 'x': element"):
        from_raw("x", "BYTES", [1], data)


def test_a_number_of_texts_that_the_shape_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="2 elements"):
        from_raw("x", "BYTES", [3], to_raw(np.array(["a", "b"], dtype=object)))


def test_raw_booleans_are_0_or_1() -> None:
    with pytest.raises(InvalidRequest, match="neither 0 nor 1"):
        from_raw("x", "BOOL", [2], b"\x01\x02")


def test_raw_data_at_an_odd_address_give_an_aligned_tensor() -> None:
    body = memoryview(b"!" + np.arange(4, dtype=np.float64).tobytes())

    array = from_raw("x", "FP64", [4], body[1:])

    assert array.flags.aligned
    assert array.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("datatype", ["BF16", "fp32", "", "FLOAT"])
def test_a_datatype_that_is_none_is_refused(datatype: str) -> None:
    with pytest.raises(InvalidRequest, match="is none of BOOL, UINT8"):
        from_raw("x", datatype, [1], b"\0")


def test_half_floats_travel_as_raw_bytes_only() -> None:
    with pytest.raises(InvalidRequest, match="binary"):
        from_json("x", "FP16", [1], b"[1]")


def test_typed_values_out_of_a_narrow_types_range_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="range of UINT8"):
        from_values("x", "UINT8", [1], [256])


@settings(max_examples=200, deadline=None)
@given(
    datatype=st.sampled_from(sorted(DATATYPES)),
    shape=st.lists(st.integers(0, 2**62), max_size=5),
    data=st.binary(max_size=64),
)
def test_whatever_bytes_come_it_is_a_tensor_or_a_typed_error(
    datatype: str, shape: list[int], data: bytes
) -> None:
    for read in (from_raw, from_json):
        with contextlib.suppress(InvalidRequest):
            assert read("x", datatype, shape, data).shape == tuple(shape)
