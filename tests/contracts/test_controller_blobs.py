"""What every blob store of the controller promises."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import InvalidInput, NotFound
from controller.store.blob_folder import BlobFolder
from controller.store.blob_store import BlobStore
from simulations.memory_controller_blobs import MemoryControllerBlobs


@pytest.fixture(params=["memory", "folder"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "memory":
        return MemoryControllerBlobs()
    return BlobFolder.open(tmp_path / "blobs")


def test_a_blob_is_named_by_the_sha256_of_its_bytes(blobs: BlobStore) -> None:
    name = blobs.put(b"model")

    assert name == hashlib.sha256(b"model").hexdigest()
    assert blobs.has(name)
    assert blobs.size(name) == 5
    assert b"".join(blobs.read(name)) == b"model"


def test_storing_twice_is_as_storing_once(blobs: BlobStore) -> None:
    assert blobs.put(b"model") == blobs.put(b"model")
    assert b"".join(blobs.read(blobs.put(b"model"))) == b"model"


def test_an_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    name = blobs.put(b"")

    assert blobs.has(name)
    assert blobs.size(name) == 0
    assert list(blobs.read(name)) == []


def test_reading_goes_on_from_an_offset_in_pieces(blobs: BlobStore) -> None:
    name = blobs.put(b"0123456789")

    assert list(blobs.read(name, offset=3, chunk=4)) == [b"3456", b"789"]


@settings(max_examples=40)
@given(data=st.binary(max_size=200), offset=st.integers(0, 2**64), chunk=st.integers(1, 300))
def test_the_pieces_are_the_rest_whatever_the_offset_and_their_size(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, offset: int, chunk: int
) -> None:
    for blobs in (MemoryControllerBlobs(), BlobFolder.open(tmp_path_factory.getbasetemp() / "b")):
        name = blobs.put(data)

        pieces = list(blobs.read(name, offset, chunk))

        assert b"".join(pieces) == data[offset:]
        assert all(len(piece) == chunk for piece in pieces[:-1])


def test_a_negative_offset_is_refused(blobs: BlobStore) -> None:
    name = blobs.put(b"model")

    with pytest.raises(InvalidInput, match="offset"):
        blobs.read(name, offset=-1)


@pytest.mark.parametrize(
    "name",
    ["0" * 64, "", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "\x00" * 64, "0" * 999],
    ids=["absent", "empty", "path", "upper case", "short", "newline", "zeros", "long"],
)
def test_what_is_not_there_or_no_digest_is_not_found(blobs: BlobStore, name: str) -> None:
    assert not blobs.has(name)
    with pytest.raises(NotFound):
        blobs.size(name)
    with pytest.raises(NotFound):
        blobs.read(name)


FAR = 2.0**40
"""A moment that is always to come."""


def test_a_blob_that_is_old_enough_is_found_and_removed_and_no_other(blobs: BlobStore) -> None:
    name, other = blobs.put(b"model"), blobs.put(b"other")

    assert sorted(blobs.stored_before(FAR)) == sorted([name, other])
    assert blobs.delete(name, before=FAR)

    assert not blobs.has(name)
    with pytest.raises(NotFound):
        blobs.size(name)
    assert list(blobs.stored_before(FAR)) == [other]
    assert b"".join(blobs.read(other)) == b"other"


def test_a_blob_that_was_stored_since_stays(blobs: BlobStore) -> None:
    name = blobs.put(b"model")

    assert list(blobs.stored_before(1.0)) == []
    assert not blobs.delete(name, before=1.0)
    assert b"".join(blobs.read(name)) == b"model"


def test_a_blob_can_be_stored_again_after_it_was_removed(blobs: BlobStore) -> None:
    name = blobs.put(b"model")
    blobs.delete(name, before=FAR)

    assert blobs.put(b"model") == name
    assert b"".join(blobs.read(name)) == b"model"


@pytest.mark.parametrize("name", ["0" * 64, "", "../../etc/passwd", "A" * 64])
def test_removing_what_is_not_there_removes_nothing(blobs: BlobStore, name: str) -> None:
    kept = blobs.put(b"model")

    assert not blobs.delete(name, before=FAR)
    assert blobs.has(kept)
