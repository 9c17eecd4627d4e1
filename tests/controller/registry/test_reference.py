import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper

from controller.errors import BadReference, TooLarge
from controller.registry.npz_file import read_arrays
from controller.registry.reference import read_reference
from tests.controller.registry.building import (
    FEATURES,
    classifier,
    examined,
    model_of,
    npz,
    rows_and_truth,
    unary,
    value,
)

X, Y = rows_and_truth(50)
ONE_INPUT = examined(classifier())
TWO_INPUTS = examined(
    model_of(
        [helper.make_node("Add", ["a", "b"], ["z"])],
        [value("a", TensorProto.FLOAT, ["N", 4]), value("b", TensorProto.FLOAT, ["N", 4])],
        [value("z", TensorProto.FLOAT, ["N", 4])],
    )
)
TEXTS = examined(unary("Identity", TensorProto.STRING, ("N", 2)))
DTYPES = ["<f4", ">f4", "<f8", "<f2", "<i8", ">i2", "|u1", "|b1", "<u4", "<U5", "|S3"]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(DTYPES), st.booleans())
def test_arrays_come_back_as_numpy_wrote_them(
    data: st.DataObject, code: str, fortran: bool
) -> None:
    shape = data.draw(arrays.array_shapes(max_dims=4, max_side=5))
    text = st.text(st.characters(min_codepoint=97, max_codepoint=122), max_size=3)
    elements = {"U": text, "S": text.map(str.encode)}.get(code[1])
    written = data.draw(arrays.arrays(np.dtype(code), shape, elements=elements))
    if fortran:
        written = np.asfortranarray(written)

    found = read_arrays(npz(a=written), "r.npz")["a"]

    wanted = written.astype(str).astype(object) if code[1] in "US" else written
    assert found.dtype == (object if code[1] in "US" else written.dtype.newbyteorder("="))
    np.testing.assert_array_equal(found, wanted)


def test_a_compressed_file_and_a_single_array_are_read() -> None:
    file, single = io.BytesIO(), io.BytesIO()
    np.savez_compressed(file, x=X)
    np.save(single, X)

    assert np.array_equal(read_arrays(file.getvalue(), "r.npz")["x"], X)
    assert np.array_equal(read_reference(single.getvalue(), ONE_INPUT).inputs["x"], X)


def raw_npy(header: str, body: bytes = b"") -> bytes:
    data = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(data)) + data + body


def npz_of(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def header(descr: str = "'<f4'", shape: str = "(2, 2)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


class Bomb:
    """What a pickle would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_objects_are_refused_and_not_one_is_unpickled(tmp_path: Path) -> None:
    array = np.array([Bomb(tmp_path / "touched")], dtype=object)

    with pytest.raises(BadReference, match=r"r.npz: array 'x': .*a pickle: never accepted"):
        read_arrays(npz(x=array), "r.npz")
    with pytest.raises(BadReference, match="a Python pickle: never accepted"):
        read_arrays(pickle.dumps(array), "r.npz")

    assert not (tmp_path / "touched").exists()


def test_a_header_is_never_evaluated(tmp_path: Path) -> None:
    call = f"__import__('pathlib').Path({str(tmp_path / 'touched')!r}).touch()"

    for text in (header(descr=call), header(shape=call), call, header(shape="(" * 5000)):
        with pytest.raises(BadReference, match="a broken header"):
            read_arrays(npz_of(("x.npy", raw_npy(text, bytes(16)))), "r.npz")

    assert not (tmp_path / "touched").exists()


BROKEN = {
    "text": (b"hello", "not an .npz file but something else"),
    "onnx": (classifier().SerializeToString(), "not an .npz file"),
    "empty": (b"", "not an .npz file"),
    "cut short": (npz(x=X)[:-30], "a broken .npz file"),
    "no array": (npz_of(("readme.txt", b"hi")), "array 'readme.txt': not an array"),
    "not numpy": (npz_of(("x.npy", b"hello, this is no array")), "'x': not a NumPy array"),
    "cut header": (npz_of(("x.npy", b"\x93NUMPY\x01\x00\xff\xff{")), "a broken header"),
    "endless header": (npz_of(("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{")), "a broken header"),
    "structured": (
        npz(x=np.zeros(3, dtype=[("a", "<f4"), ("b", "<i4")])),
        "array 'x': a structured array",
    ),
    "dates": (npz(x=np.zeros(3, dtype="datetime64[s]")), "a broken header"),
    "complex": (npz(x=np.zeros(3, dtype=np.complex64)), "of dtype '<c8'"),
    "too little data": (npz_of(("x.npy", raw_npy(header(), bytes(8)))), "8 bytes of data do not"),
    "too much data": (npz_of(("x.npy", raw_npy(header(), bytes(32)))), "32 bytes of data do not"),
    "huge shape": (
        npz_of(("x.npy", raw_npy(header(shape="(99999999999, 99999999999)"), bytes(8)))),
        "do not fill the shape",
    ),
    "no rows": (npz(x=np.zeros((0, 4), np.float32)), "no rows"),
    "many axes": (npz_of(("x.npy", raw_npy(header(shape="(" + "1, " * 20 + ")")))), "too many axes"),
    "odd bool": (npz_of(("x.npy", raw_npy(header("'|b1'", "(2,)"), b"\x00\x02"))), "a bool that is"),
    "twice": (npz_of(("x.npy", raw_npy(header(), bytes(16))), ("x", b"")), "'x': not an array"),
    "many arrays": (npz(**{f"a{i}": X[:1] for i in range(65)}), "65 arrays; 64 at most"),
    "very many arrays": (npz(**{f"a{i}": X[:1] for i in range(300)}), "more than 64 arrays"),
    "not UTF-8": (npz(x=np.array([b"\xff\xfe"])), "array 'x': not UTF-8"),
    "half a character": (
        npz_of(("x.npy", raw_npy(header("'>U1'", "(1,)"), b"\x00\x00\xd8\x00"))),
        "array 'x': not Unicode",
    ),
    "not Unicode": (
        npz_of(("x.npy", raw_npy(header("'<U1'", "(1,)"), b"\xff\xff\xff\xff"))),
        "array 'x': not Unicode",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_reference_file_is_refused_naming_the_array(data: bytes, reason: str) -> None:
    with pytest.raises(BadReference) as refused:
        read_arrays(data, "r.npz")

    assert refused.value.detail.startswith("r.npz: ")
    assert reason in refused.value.detail


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    data = bytearray(npz(x=X))
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 2**31)  # what it says it unpacks to

    with pytest.raises(TooLarge, match="unpacks to 2,147,483,648 bytes"):
        read_arrays(bytes(data), "r.npz")


def test_a_file_that_unpacks_to_more_than_it_says_is_refused() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros(100_000, np.float32))
    data = bytearray(file.getvalue())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 1000)

    with pytest.raises(BadReference, match=r"r.npz: "):
        read_arrays(bytes(data), "r.npz")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_mutated_file_is_read_or_refused_and_nothing_else(
    changes: list[tuple[int, int]],
) -> None:
    data = bytearray(npz(x=X[:3], y=Y[:3]))
    for at, byte in changes:
        data[at % len(data)] = byte

    assert outcome(bytes(data)) in {"read", "refused"}


def outcome(data: bytes) -> str:
    try:
        read_reference(data, ONE_INPUT)
    except (BadReference, TooLarge):
        return "refused"
    return "read"


@pytest.mark.parametrize("name", ["x", "X", "features", "anything"])
def test_a_single_inputs_array_may_have_any_name(name: str) -> None:
    found = read_reference(npz(**{name: X}), ONE_INPUT)

    assert np.array_equal(found.inputs["x"], X)
    assert (found.rows, found.truth) == (50, None)
    assert found.notes == (() if name == "x" else (f"array '{name}' is taken for the input 'x'",))


@pytest.mark.parametrize("name", ["y", "label", "target"])
def test_the_truth_is_recognised_by_its_name(name: str) -> None:
    found = read_reference(npz(**{name: Y[:, None]}, data=X), ONE_INPUT)

    assert found.truth is not None
    assert np.array_equal(found.truth, Y)


def test_an_input_that_is_called_like_a_truth_is_an_input() -> None:
    model = classifier()
    model.graph.input[0].name = model.graph.node[0].input[0] = "y"

    found = read_reference(npz(y=X), examined(model))

    assert (list(found.inputs), found.truth) == (["y"], None)


def test_dtypes_change_where_no_value_does_and_it_is_said() -> None:
    whole = np.arange(20, dtype=np.uint8).reshape(5, 4)

    found = read_reference(npz(x=whole), ONE_INPUT)

    assert found.inputs["x"].dtype == np.float32
    assert found.notes == ("array 'x': uint8 became float32, every value the same",)


def test_missing_values_stay_missing() -> None:
    holes = np.where(X > 1, np.nan, X).astype(np.float64)

    found = read_reference(npz(x=holes), ONE_INPUT).inputs["x"]

    np.testing.assert_array_equal(found, holes.astype(np.float32))


def test_texts_become_strings() -> None:
    found = read_reference(npz(x=np.array([["a", "ä"], ["b", "c"]])), TEXTS).inputs["x"]

    assert found.tolist() == [["a", "ä"], ["b", "c"]]
    assert found.dtype == object


def f64(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.full(shape, 0.1)


UNFIT = {
    "lossy": (npz(x=f64((5, 4))), "array 'x': float64, with values that FP32 can't hold exactly"),
    "large integers": (npz(x=np.full((5, 4), 2**24 + 1)), "int64, with values that FP32 can't"),
    "other shape": (npz(x=X[:, :3]), "array 'x': float32 [50, 3]; input 'x' takes [rows, 4]"),
    "scalar": (npz(x=np.array(1, np.float32)), "array 'x': float32 []; input 'x' takes [rows, 4]"),
    "other rows": (npz(x=X, y=Y[:7]), "the arrays differ in their number of rows: x 50, y 7"),
    "two arrays": (npz(a=X, b=X), "no array for input 'x'; there are 'a', 'b'"),
    "extra array": (npz(x=X, extra=X), "array 'extra' is neither an input ('x') nor the truth"),
    "two truths": (npz(x=X, y=Y, target=Y), "which is the truth?"),
    "wide truth": (npz(x=X, y=X), "array 'y': the truth has one value a row"),
    "only a truth": (npz(y=Y), "no array for input 'x'"),
    "texts for numbers": (npz(x=np.full((5, 4), "a")), "array 'x': object"),
}


@pytest.mark.parametrize(("data", "reason"), UNFIT.values(), ids=UNFIT)
def test_data_that_do_not_fit_are_refused_naming_the_array(data: bytes, reason: str) -> None:
    with pytest.raises(BadReference) as refused:
        read_reference(data, ONE_INPUT, "r.npz")

    assert reason in refused.value.detail


def test_everything_that_does_not_fit_is_told_at_once() -> None:
    with pytest.raises(
        BadReference, match=r"array 'a': .*; no array for input 'b'|no array.*'a': "
    ):
        read_reference(npz(a=X[:, : FEATURES - 1]), TWO_INPUTS)
