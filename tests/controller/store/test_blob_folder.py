"""What the disk adds to the contract of blobs."""

import os
import stat
from pathlib import Path

import pytest

from controller.errors import StoreError
from controller.store.blob_folder import BlobFolder


def test_only_the_owner_can_look_into_the_folder(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir(mode=0o755)
    name = BlobFolder.open(tmp_path / "blobs").put(b"model")

    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "blobs", *(tmp_path / "blobs").rglob("*"))
    }

    assert modes == {"blobs": 0o700, name[:2]: 0o700, name: 0o600}


def test_what_was_put_is_there_after_a_restart_and_leftovers_are_not(tmp_path: Path) -> None:
    name = BlobFolder.open(tmp_path).put(b"model")
    (tmp_path / ".incoming-1234").write_bytes(b"mod")

    reopened = BlobFolder.open(tmp_path)

    assert b"".join(reopened.read(name)) == b"model"
    assert [path.name for path in tmp_path.iterdir()] == [name[:2]]


def test_a_blob_that_lost_its_end_is_put_anew(tmp_path: Path) -> None:
    blobs = BlobFolder.open(tmp_path)
    name = blobs.put(b"model")
    (tmp_path / name[:2] / name).write_bytes(b"mod")

    assert blobs.put(b"model") == name

    assert b"".join(blobs.read(name)) == b"model"


def test_a_blob_that_is_put_again_is_as_young_as_a_new_one(tmp_path: Path) -> None:
    blobs = BlobFolder.open(tmp_path)
    name = blobs.put(b"model")
    os.utime(tmp_path / name[:2] / name, (100.0, 100.0))
    assert list(blobs.stored_before(200.0)) == [name]

    blobs.put(b"model")

    assert list(blobs.stored_before(200.0)) == []
    assert not blobs.delete(name, before=200.0)
    assert blobs.has(name)


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("no folder")

    with pytest.raises(StoreError, match="blobs"):
        BlobFolder.open(tmp_path / "blobs")


def test_a_failed_put_keeps_nothing(tmp_path: Path) -> None:
    blobs = BlobFolder.open(tmp_path / "blobs")
    name = BlobFolder.open(tmp_path / "other").put(b"model")
    (tmp_path / "blobs" / name[:2]).write_text("in the way")

    with pytest.raises(StoreError, match=name):
        blobs.put(b"model")

    assert not blobs.has(name)
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [name[:2]]
