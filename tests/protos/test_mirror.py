import pytest

from protos.errors import DocumentError
from protos.limits import METADATA_BYTES, metadata_limit
from protos.mirror import belongs, blob_path, is_root, metadata_path

SHA = "ab" + "0" * 62


@pytest.mark.parametrize(
    "name",
    ["timestamp.json", "1.root.json", "7.snapshot.json", "7.targets.json", "9.models-a-b.json"],
)
def test_metadata_stands_under_its_name(name: str) -> None:
    assert metadata_path(name) == f"metadata/{name}"
    assert belongs(metadata_path(name))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "root.json",
        "0.root.json",
        "1.timestamp.json",
        "1.director.json",
        "1.models-.json",
        "1.models-A.json",
        "1.models-../x.json",
        "../1.root.json",
        "1.root.json\n",
        "1.root.json?x",
        "1234567890.root.json",
    ],
)
def test_another_name_is_no_metadata(name: str) -> None:
    with pytest.raises(DocumentError):
        metadata_path(name)

    assert not belongs(f"metadata/{name}")


def test_a_blob_stands_under_its_first_two_digits() -> None:
    assert blob_path(SHA) == f"blobs/ab/{SHA}"
    assert belongs(blob_path(SHA))


@pytest.mark.parametrize("sha256", ["", SHA.upper(), SHA[:-1], f"{SHA}0", f"../{SHA}", f"{SHA}\n"])
def test_what_is_no_digest_is_no_blob(sha256: str) -> None:
    with pytest.raises(DocumentError):
        blob_path(sha256)


@pytest.mark.parametrize(
    "path",
    ["index.html", f"blobs/cd/{SHA}", f"blobs/{SHA}", f"other/ab/{SHA}", f"blobs/ab/x/{SHA}"],
)
def test_what_stands_elsewhere_is_somebody_else_s(path: str) -> None:
    assert not belongs(path)


def test_versions_of_root_are_told_from_the_rest() -> None:
    assert is_root("3.root.json")
    assert not is_root("3.targets.json")
    assert not is_root("timestamp.json")


def test_metadata_has_the_limit_of_its_role() -> None:
    assert metadata_limit("3.root.json") == METADATA_BYTES["root"]
    assert metadata_limit("timestamp.json") == METADATA_BYTES["timestamp"]
    assert metadata_limit("3.models-digits.json") == METADATA_BYTES["targets"]
