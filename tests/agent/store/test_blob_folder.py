import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import DiskFull, HashMismatch, StoreError
from agent.store.blob_folder import BlobFolder, translate

DATA = b"model" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[BlobFolder]:
    folder = BlobFolder(tmp_path / "blobs")
    yield folder
    folder.close()


def put(blobs: BlobFolder, data: bytes = DATA) -> Path:
    sha256 = hashlib.sha256(data).hexdigest()
    writer = blobs.writer(sha256, len(data))
    writer.write(data[writer.offset :])
    writer.finish()
    return blobs.path_of(sha256)


def files(tmp_path: Path) -> list[str]:
    root = tmp_path / "blobs"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_files_lie_by_digest_and_are_their_owners_alone(blobs: BlobFolder, tmp_path: Path) -> None:
    path = put(blobs)

    assert files(tmp_path) == [f"{SHA[:2]}/{SHA}"]
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700


def test_a_partial_is_hidden_until_it_is_whole(blobs: BlobFolder, tmp_path: Path) -> None:
    writer = blobs.writer(SHA, len(DATA))
    writer.write(DATA[:10])
    writer.close()

    assert files(tmp_path) == [f"{SHA[:2]}/.{SHA}.part"]


def test_a_partial_that_the_disk_has_changed_is_found_out(
    blobs: BlobFolder, tmp_path: Path
) -> None:
    writer = blobs.writer(SHA, len(DATA))
    writer.write(DATA[:100])
    writer.close()
    (tmp_path / "blobs" / SHA[:2] / f".{SHA}.part").write_bytes(b"\x00" * 100)

    with pytest.raises(HashMismatch):
        put(blobs)

    assert files(tmp_path) == []
    put(blobs)
    assert blobs.has(SHA)


@pytest.mark.parametrize("changed", [b"other bytes", DATA[:-1], b""])
def test_a_file_that_the_disk_has_changed_is_removed(blobs: BlobFolder, changed: bytes) -> None:
    path = put(blobs)
    path.write_bytes(changed)

    with pytest.raises(HashMismatch, match="the disk has changed it"):
        blobs.verify(SHA)

    assert not blobs.has(SHA)


def test_symbolic_links_are_never_followed(blobs: BlobFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(DATA)
    bucket = tmp_path / "blobs" / SHA[:2]
    bucket.mkdir()
    (bucket / SHA).symlink_to(outside)
    (bucket / f".{SHA}.part").symlink_to(outside)

    assert not blobs.has(SHA)
    with pytest.raises(StoreError):
        blobs.read(SHA)
    with pytest.raises(StoreError):
        blobs.writer(SHA, len(DATA))
    blobs.keep_only([])

    assert outside.read_bytes() == DATA
    assert files(tmp_path) == []


def test_a_linked_folder_is_not_written_to(blobs: BlobFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / SHA).write_bytes(b"somebody else's")
    (tmp_path / "blobs" / SHA[:2]).symlink_to(elsewhere)

    for use in (blobs.has, blobs.read, blobs.verify, lambda sha: blobs.writer(sha, len(DATA))):
        with pytest.raises(StoreError):
            use(SHA)
    assert blobs.keep_only([]) == 0

    assert [path.name for path in elsewhere.iterdir()] == [SHA]


def test_a_linked_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "blobs").symlink_to(tmp_path / "real")

    with pytest.raises(StoreError):
        BlobFolder(tmp_path / "blobs")


def test_files_of_others_stay(blobs: BlobFolder, tmp_path: Path) -> None:
    put(blobs)
    (tmp_path / "blobs" / SHA[:2] / "notes.txt").write_text("mine")
    (tmp_path / "blobs" / "README").write_text("mine")

    blobs.keep_only([])

    assert files(tmp_path) == ["README", f"{SHA[:2]}/notes.txt"]


def test_a_full_disk_keeps_what_fitted_and_goes_on_later(blobs: BlobFolder, tmp_path: Path) -> None:
    writer = blobs.writer(SHA, len(DATA))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1234, before[1]))
    try:
        with pytest.raises(DiskFull, match=SHA):
            writer.write(DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert writer.offset == 1234
    writer.close()

    again = blobs.writer(SHA, len(DATA))
    assert again.offset == 1234
    again.close()
    assert put(blobs).read_bytes() == DATA


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_no_room_has_many_names(name: str) -> None:
    number = getattr(__import__("errno"), name)

    assert isinstance(translate(OSError(number, os.strerror(number)), "x"), DiskFull)
    assert not isinstance(translate(OSError(5, "Input/output error"), "x"), DiskFull)


def test_a_folder_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("no folder")

    with pytest.raises(StoreError, match="blobs"):
        BlobFolder(tmp_path / "blobs")
