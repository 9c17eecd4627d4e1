from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.access.operator import Role
from controller.registry.version import State, Version
from controller.store.mirror_folder import MirrorFolder
from protos.documents import sha256
from protos.manifest import Role as FileRole
from protos.manifest import read_manifest
from protos.mirror import belongs, blob_path
from protos.tuf import Metadata
from tests.controller.cli.conftest import publish
from tests.controller.cli.office import MODEL, Muster, Office


@pytest.fixture
def viewer(published: Office, monkeypatch: pytest.MonkeyPatch) -> Muster:
    """Commands of somebody who may only look; digits/1 is published."""
    return Muster(monkeypatch, published.profiles[Role.VIEWER])


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def versioned(files: dict[str, bytes], role: str) -> Iterator[int]:
    for path, data in files.items():
        if path.endswith(f".{role}.json"):
            yield Metadata.from_bytes(data).signed.version


def listed(office: Office) -> list[Version]:
    with office.store.read() as tx:
        return [one for one in tx.registry.versions(MODEL) if one.state is State.PUBLISHED]


def test_a_mirror_has_all_that_a_device_may_fetch(
    viewer: Muster, published: Office, tmp_path: Path
) -> None:
    folder = tmp_path / "www" / "mirror"

    told = viewer.ok("mirror", "sync", folder, "-o", "json").json
    files = tree(folder)

    assert all(map(belongs, files))
    for path, data in files.items():
        if path.startswith("blobs/"):
            assert path == blob_path(sha256(data))
    assert list(versioned(files, "root")) == [1]
    assert "metadata/timestamp.json" in files
    for role in ("snapshot", "targets", f"models-{MODEL}"):
        assert len(list(versioned(files, role))) == 1
    versions = listed(published)
    wanted = {blob_path(one.manifest_sha256) for one in versions}
    for one in versions:
        wanted |= {blob_path(file.sha256) for file in read_manifest(one.manifest).files.values()}
    assert wanted == {path for path in files if path.startswith("blobs/")}
    assert told == {
        "folder": str(folder),
        "versions": len(versions),
        "brought": len(files),
        "bytes": sum(map(len, files.values())),
        "present": 0,
        "removed": 0,
        "expires": told["expires"],
    }


def test_what_is_there_is_not_fetched_again_and_what_was_damaged_is(
    viewer: Muster, tmp_path: Path
) -> None:
    viewer.ok("mirror", "sync", tmp_path)
    files = tree(tmp_path)

    again = viewer.ok("mirror", "sync", tmp_path, "-o", "json").json
    assert (again["brought"], again["bytes"], again["present"]) == (0, 0, len(files))

    spoilt = next(tmp_path.glob("blobs/*/*"))
    spoilt.write_bytes(b"rot")
    (tmp_path / "metadata" / "1.root.json").unlink()

    assert viewer.ok("mirror", "sync", tmp_path, "-o", "json").json["brought"] == 2
    assert tree(tmp_path) == files


def test_it_says_in_one_line_what_it_did(viewer: Muster, tmp_path: Path) -> None:
    (line,) = viewer.ok("mirror", "sync", tmp_path).lines

    assert line.startswith(f"{tmp_path} has 1 version")
    assert "brought" in line
    assert "good until " in line


def test_pruning_removes_what_is_listed_no_more_and_nothing_of_anybody_else(
    viewer: Muster, muster: Muster, published: Office, tmp_path: Path
) -> None:
    viewer.ok("mirror", "sync", tmp_path)
    before = tree(tmp_path)
    (tmp_path / "index.html").write_text("hello")
    (tmp_path / "blobs" / "README").write_text("files by digest")
    (tmp_path / ".incoming-left").write_text("of a crash")
    publish(muster, published, 2.0)
    older = listed(published)[0]
    muster.ok("model", "recall", f"{MODEL}/{older.version}", "--key", published.key("ann"), "--yes")

    viewer.ok("mirror", "sync", tmp_path)
    kept = tree(tmp_path)
    assert before.keys() <= kept.keys()
    assert ".incoming-left" not in kept

    told = viewer.ok("mirror", "sync", tmp_path, "--prune").lines
    left = tree(tmp_path)

    assert told[-1] == f"{len(kept) - len(left)} files removed"
    assert {"index.html", "blobs/README", "metadata/1.root.json"} <= left.keys()
    assert len(list(versioned(left, "snapshot"))) == 1
    assert blob_path(older.manifest_sha256) in kept
    assert blob_path(older.manifest_sha256) not in left


def test_a_file_that_the_controller_has_lost_leaves_the_mirror_as_it_was(
    viewer: Muster, published: Office, tmp_path: Path
) -> None:
    viewer.ok("mirror", "sync", tmp_path)
    stamp = (tmp_path / "metadata" / "timestamp.json").read_bytes()
    digest = read_manifest(listed(published)[0].manifest).files[FileRole.CARD].sha256
    place = published.home.blobs / digest[:2] / digest
    data = place.read_bytes()
    (tmp_path / blob_path(digest)).unlink()
    try:
        place.unlink()
        assert "no blob" in viewer.refused("mirror", "sync", tmp_path)
        assert "no blob" in viewer.refused("mirror", "sync", tmp_path / "new")
        place.write_bytes(bytes(len(data)))
        assert "other bytes" in viewer.refused("mirror", "sync", tmp_path)
    finally:
        place.write_bytes(data)

    assert "metadata/timestamp.json" not in tree(tmp_path / "new")  # it is written last
    assert not (tmp_path / blob_path(digest)).exists()
    assert (tmp_path / "metadata" / "timestamp.json").read_bytes() == stamp
    viewer.ok("mirror", "sync", tmp_path)
    assert (tmp_path / blob_path(digest)).read_bytes() == data


def test_two_do_not_write_one_mirror(viewer: Muster, tmp_path: Path) -> None:
    with MirrorFolder(tmp_path):
        assert "another process" in viewer.refused("mirror", "sync", tmp_path)


def test_a_folder_that_can_t_be_one_is_told(viewer: Muster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    said = viewer.refused("mirror", "sync", tmp_path / "file")

    assert str(tmp_path / "file") in said
