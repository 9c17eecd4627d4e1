import json
from pathlib import Path

import pytest

from controller.errors import ConfigError, Conflict, InvalidInput, NotFound
from controller.signing.keyring import PublicKeyFile, decode, encode
from controller.store.key_files import KeyFiles, read_public_key
from protos.keys import CryptoSigner


def test_a_key_signs_what_its_public_half_verifies(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path / "keys")
    public = keys.create("alice", "Alice A.")

    signature = keys.signer("alice").sign(b"data")

    public.verify_signature(signature, b"data")
    assert keys.names() == ["alice"]
    assert keys.public("alice").holder == "Alice A."


def test_private_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path / "keys")
    keys.create("alice")

    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / "alice.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "keys" / "alice.pem").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        keys.signer("alice")


def test_no_key_is_ever_overwritten(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path)
    keys.create("alice")
    before = (tmp_path / "alice.pem").read_bytes()

    with pytest.raises(Conflict, match=r"alice\.pem is there already"):
        keys.create("alice")

    assert (tmp_path / "alice.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["../alice", "", "a/b", ".hidden", "a" * 65, "al ice"])
def test_a_name_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="key name"):
        KeyFiles(tmp_path).create(name)


def test_the_folder_of_keys_may_be_moved(tmp_path: Path) -> None:
    public = KeyFiles(tmp_path / "old").create("alice")
    (tmp_path / "old").rename(tmp_path / "new")

    signature = KeyFiles(tmp_path / "new").signer("alice").sign(b"data")

    public.verify_signature(signature, b"data")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path)
    with pytest.raises(NotFound, match=r"bob\.json: no such key file"):
        keys.signer("bob")
    keys.create("alice")
    (tmp_path / "alice.pem").unlink()
    with pytest.raises(NotFound, match=r"alice\.pem: no such private key"):
        keys.signer("alice")


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_torn_private_key_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    keys = KeyFiles(tmp_path)
    keys.create("alice")
    (tmp_path / "alice.pem").write_bytes(content)

    with pytest.raises(ConfigError, match=r"alice\.json"):
        keys.signer("alice")


def test_a_private_key_of_somebody_else_is_noticed(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path)
    keys.create("alice")
    keys.create("bob")
    (tmp_path / "bob.pem").replace(tmp_path / "alice.pem")

    with pytest.raises(ConfigError, match="does not match"):
        keys.signer("alice")


@pytest.mark.parametrize("uri", ["", "nowhere:key", "hsm:2?label=x"])
def test_a_uri_that_nothing_signs_for_is_a_clear_error(tmp_path: Path, uri: str) -> None:
    keys = KeyFiles(tmp_path)
    keys.create("alice")
    path = tmp_path / "alice.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"uri": uri}))

    with pytest.raises(ConfigError, match=r"alice\.json"):
        keys.signer("alice")


def test_a_path_that_a_uri_cannot_carry_is_refused(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path / "a#b")
    keys.create("alice")

    with pytest.raises(ConfigError, match="must be without"):
        keys.signer("alice")


def test_a_public_key_file_reads_as_it_was_written(tmp_path: Path) -> None:
    entry = PublicKeyFile("Bob", CryptoSigner.generate_ecdsa().public_key, "file2:bob.pem")

    assert decode(encode(entry), "bob.json") == entry
    (tmp_path / "bob.json").write_bytes(encode(entry))
    assert read_public_key(tmp_path / "bob.json", "Robert").holder == "Robert"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a public key file"),
        (b"[]", "not a public key file"),
        (b'{"holder": "\xff"}', "not a public key file"),
        (b'{"holder": "a", "keyid": "b", "key": {}}', "not a public key file"),
        (b" " * 20_000, "at most"),
    ],
)
def test_what_is_no_public_key_file_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "bob.json").write_bytes(content)

    with pytest.raises(InvalidInput, match=rf"bob\.json.*{message}"):
        read_public_key(tmp_path / "bob.json")


def test_a_key_under_the_id_of_another_is_refused(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path)
    keys.create("alice")
    other = keys.create("bob")
    path = tmp_path / "alice.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"keyid": other.keyid}))

    with pytest.raises(InvalidInput, match="keyid"):
        read_public_key(path)
