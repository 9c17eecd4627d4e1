"""What every ``BlobStore`` of a device promises."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import EndlessData, HashMismatch, MalformedDocument, StoreError
from agent.store.blob_folder import BlobFolder
from agent.store.blob_store import BlobStore
from simulations.memory_blobs import MemoryBlobs

DATA = bytes(range(256)) * 8
SHA = hashlib.sha256(DATA).hexdigest()

Opener = Callable[[], BlobStore]


@pytest.fixture(params=["memory", "folder"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """The store; called again, as after a restart of the agent."""
    memory = MemoryBlobs()
    folders: list[BlobFolder] = []

    def opener() -> BlobStore:
        if request.param == "memory":
            return memory
        folders.append(BlobFolder(tmp_path / "blobs"))
        return folders[-1]

    yield opener
    for folder in folders:
        folder.close()


@pytest.fixture
def blobs(opened: Opener) -> BlobStore:
    return opened()


def put(blobs: BlobStore, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    writer = blobs.writer(sha256, len(data))
    writer.write(data[writer.offset :])
    writer.finish()
    return sha256


def test_a_blob_is_there_once_it_is_finished(blobs: BlobStore, opened: Opener) -> None:
    writer = blobs.writer(SHA, len(DATA))
    writer.write(DATA)
    assert not blobs.has(SHA)

    writer.finish()
    writer.close()

    again = opened()
    assert again.has(SHA)
    assert again.read(SHA) == DATA
    assert again.verify(SHA) == len(DATA)


def test_an_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    assert blobs.read(put(blobs, b"")) == b""


def test_a_blob_that_is_not_there_is_a_store_error(blobs: BlobStore) -> None:
    assert not blobs.has(SHA)
    with pytest.raises(StoreError, match="not there"):
        blobs.read(SHA)
    with pytest.raises(StoreError, match="not there"):
        blobs.verify(SHA)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_writing_goes_on_where_it_stopped(opened: Opener, data: bytes, cuts: list[int]) -> None:
    opened().keep_only([])
    sha256 = hashlib.sha256(data).hexdigest()

    for cut in sorted(cuts):  # each in a run of its own
        writer = opened().writer(sha256, len(data))
        assert writer.offset <= cut
        writer.write(data[writer.offset : cut])
        assert writer.offset == min(cut, len(data))
        writer.close()

    assert opened().read(put(opened(), data)) == data


def test_other_bytes_are_refused_and_not_kept(blobs: BlobStore) -> None:
    writer = blobs.writer(SHA, len(DATA))
    writer.write(b"\x00" * len(DATA))

    with pytest.raises(HashMismatch, match=SHA):
        writer.finish()

    writer.close()
    assert not blobs.has(SHA)
    assert blobs.writer(SHA, len(DATA)).offset == 0


def test_too_few_bytes_are_no_blob(blobs: BlobStore) -> None:
    writer = blobs.writer(SHA, len(DATA))
    writer.write(DATA[:-1])

    with pytest.raises(HashMismatch):
        writer.finish()


def test_more_bytes_than_announced_are_cut_off(blobs: BlobStore) -> None:
    writer = blobs.writer(SHA, len(DATA))
    writer.write(DATA)

    with pytest.raises(EndlessData, match=str(len(DATA))):
        writer.write(b"!")

    assert not blobs.has(SHA)
    assert blobs.writer(SHA, len(DATA)).offset == 0


def test_a_partial_that_is_too_long_is_begun_anew(blobs: BlobStore) -> None:
    writer = blobs.writer(SHA, len(DATA))
    writer.write(DATA[:100])
    writer.close()

    assert blobs.writer(SHA, 50).offset == 0


def test_a_blob_has_one_writer_at_a_time(blobs: BlobStore) -> None:
    writer = blobs.writer(SHA, len(DATA))

    with pytest.raises(StoreError, match="being written"):
        blobs.writer(SHA, len(DATA))

    writer.close()
    blobs.writer(SHA, len(DATA)).close()


def test_a_closed_writer_writes_no_more(blobs: BlobStore) -> None:
    writer = blobs.writer(SHA, len(DATA))
    writer.close()
    writer.close()

    with pytest.raises(StoreError, match="closed"):
        writer.write(b"x")


def test_a_blob_that_is_there_needs_no_writing(blobs: BlobStore) -> None:
    put(blobs, DATA)

    writer = blobs.writer(SHA, len(DATA))
    assert writer.offset == len(DATA)
    writer.write(b"")
    with pytest.raises(EndlessData):
        writer.write(b"!")
    writer.close()
    blobs.writer(SHA, len(DATA)).finish()

    assert blobs.read(SHA) == DATA


def test_only_what_is_kept_stays(blobs: BlobStore) -> None:
    kept, gone = put(blobs, b"kept"), put(blobs, b"gone!")
    half = blobs.writer(SHA, len(DATA))
    half.write(DATA[:100])
    half.close()
    other = hashlib.sha256(b"other").hexdigest()
    waiting = blobs.writer(other, 5)
    waiting.write(b"oth")
    waiting.close()

    freed = blobs.keep_only([kept, other])

    assert freed == len(b"gone!") + 100
    assert (blobs.has(kept), blobs.has(gone)) == (True, False)
    assert blobs.writer(SHA, len(DATA)).offset == 0
    assert blobs.writer(other, 5).offset == 3


def test_what_is_being_written_is_not_swept_away(blobs: BlobStore) -> None:
    writer = blobs.writer(SHA, len(DATA))
    writer.write(DATA[:100])

    assert blobs.keep_only([]) == 0

    writer.write(DATA[100:])
    writer.finish()
    assert blobs.read(SHA) == DATA


@pytest.mark.parametrize(
    "name",
    ["", "abc", "A" * 64, "../" + "a" * 61, "a" * 63 + "/", "a" * 64 + "\n", "a" * 65, "\x00" * 64],
)
def test_what_is_no_digest_never_touches_a_path(blobs: BlobStore, name: str) -> None:
    for use in (blobs.has, blobs.read, blobs.verify, lambda sha: blobs.writer(sha, 1)):
        with pytest.raises(MalformedDocument, match="not a SHA-256"):
            use(name)
    with pytest.raises(MalformedDocument):
        blobs.keep_only([name])


def test_there_is_room(blobs: BlobStore) -> None:
    assert blobs.free_bytes() > 0
