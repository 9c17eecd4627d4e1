import hashlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.errors import DocumentError
from protos.int8_step import Int8Step, quantised
from protos.model_step import Move, applied, encoded, read_header

MOST = 1 << 20
HEADER = 92
PARENT = bytes(range(256)) * 3


def move(offset: int, numbers: list[float], levels: int = 127) -> Move:
    return Move(offset, quantised(np.array(numbers, np.float32), levels))


SOME = [move(8, [1.0, -0.5, 0.0, 0.25]), move(101, [3.0] * 7)]


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, list[Move]]:
    """A file, and steps for ranges of it that hold finite numbers."""
    numbers = st.floats(-1e6, 1e6, width=32)
    parent, moves = bytearray(), []
    for _ in range(draw(st.integers(0, 4))):
        parent += draw(st.binary(max_size=9))  # so that ranges begin anywhere
        old = np.array(draw(st.lists(numbers, max_size=20)), np.float32)
        new = np.array(draw(st.lists(numbers, min_size=old.size, max_size=old.size)), np.float32)
        moves.append(Move(len(parent), quantised(new - old, draw(st.integers(1, 127)))))
        parent += old.tobytes()
    return bytes(parent + draw(st.binary(max_size=9))), moves


@given(files())
def test_what_was_made_is_made_again_from_the_step(file: tuple[bytes, list[Move]]) -> None:
    parent, moves = file

    result, step = encoded(parent, moves)

    assert applied(parent, step, MOST) == result
    assert read_header(step, MOST).result_sha256 == hashlib.sha256(result).hexdigest()


@given(files())
def test_the_result_is_the_parent_moved_in_float32(file: tuple[bytes, list[Move]]) -> None:
    parent, moves = file

    result, _ = encoded(parent, moves)

    at, untouched = 0, b""
    for one in moves:
        old = np.frombuffer(parent, "<f4", one.step.values.size, one.offset)
        expected = old + one.step.scale * one.step.values.astype(np.float32)
        assert result[one.offset :].startswith(expected.astype("<f4").tobytes())
        untouched += result[at : one.offset]
        at = one.offset + old.nbytes
    assert len(result) == len(parent)
    assert result.endswith(parent[at:])


@settings(max_examples=300)
@given(st.data())
def test_a_step_that_was_changed_gives_the_same_model_or_an_error(data: st.DataObject) -> None:
    result, step = encoded(PARENT, SOME)
    at = data.draw(st.integers(0, len(step) - 1))
    changed = bytearray(step)
    changed[at] ^= data.draw(st.integers(1, 255))
    cut = bytes(changed[: data.draw(st.sampled_from([len(step), at]))])

    try:
        given_back = applied(PARENT, cut, MOST)
    except DocumentError:
        return
    assert given_back == result or hashlib.sha256(given_back).digest() == cut[48:80]


def test_another_parent_is_named_before_anything_is_unpacked() -> None:
    _, step = encoded(PARENT, SOME)

    with pytest.raises(DocumentError) as caught:
        applied(PARENT[:-1] + b"?", step, MOST)

    assert caught.value.code == "other-parent"


def test_a_step_that_leads_elsewhere_is_a_mismatch() -> None:
    _, step = encoded(PARENT, SOME)
    elsewhere = step[:48] + hashlib.sha256(b"another").digest() + step[80:]

    with pytest.raises(DocumentError) as caught:
        applied(PARENT, elsewhere, MOST)

    assert caught.value.code == "mismatch"


def test_a_file_longer_than_it_may_be_is_refused_by_its_header() -> None:
    _, step = encoded(PARENT, SOME)

    with pytest.raises(DocumentError) as caught:
        read_header(step, len(PARENT) - 1)

    assert caught.value.code == "too-large"


@pytest.mark.parametrize(
    "step",
    [
        b"",
        b"no step at all" * 20,
        b"muster step 1\n\0\0" + bytes(72) + struct.pack("<I", 2**32 - 1),
        b"muster step 1\n\0\0" + bytes(64) + struct.pack("<QI", 64, 1) + struct.pack("<QIf", 61, 1, 1),
        b"muster step 1\n\0\0" + bytes(64) + struct.pack("<QI", 64, 1) + struct.pack("<QIf", 0, 1, -1),
        b"muster step 1\n\0\0"
        + bytes(64)
        + struct.pack("<QI", 64, 2)
        + struct.pack("<QIf", 0, 2, 1)
        + struct.pack("<QIf", 4, 2, 1),
    ],
    ids=["empty", "foreign", "many ranges", "outside", "negative scale", "overlapping"],
)  # fmt: skip
def test_what_is_no_step_is_malformed(step: bytes) -> None:
    with pytest.raises(DocumentError) as caught:
        read_header(step, MOST)

    assert caught.value.code == "malformed"


def test_no_more_is_unpacked_than_the_ranges_hold() -> None:
    _, step = encoded(bytes(4000), [Move(0, Int8Step(np.float32(1), np.ones(1000, np.int8)))])
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = step[: HEADER + 16]

    swollen = head + bomb.compress(b"\1" * (1 << 26)) + bomb.flush()

    assert applied(bytes(4000), swollen, MOST) == applied(bytes(4000), step, MOST)


def test_values_that_end_too_early_are_malformed() -> None:
    _, step = encoded(bytes(4000), [Move(0, Int8Step(np.float32(1), np.ones(1000, np.int8)))])
    short = zlib.compressobj(9, zlib.DEFLATED, -15)

    with pytest.raises(DocumentError, match="ends before its last value"):
        applied(bytes(4000), step[: HEADER + 16] + short.compress(b"\1") + short.flush(), MOST)


def test_ranges_that_overlap_are_not_encoded() -> None:
    with pytest.raises(DocumentError, match="overlap"):
        encoded(PARENT, [move(0, [1.0, 2.0]), move(4, [1.0])])
