"""The key that opens what devices say through a broker, as a file."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.identity.keys import generate_key
from controller.errors import ConfigError
from controller.store.sealing_file import open_sealing_key


def raw(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def test_a_key_that_is_missing_is_made_for_its_owner_alone_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "sealing.pem"
    made = open_sealing_key(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert raw(open_sealing_key(path)) == raw(made)
    assert [one.name for one in path.parent.iterdir()] == ["sealing.pem"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sealing.pem"
    open_sealing_key(path)
    path.chmod(0o640)

    with pytest.raises(ConfigError, match=r"sealing\.pem.* mode is 640"):
        open_sealing_key(path)


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"nothing", "a private key"), (generate_key(), "is not X25519")]
)
def test_what_is_no_such_key_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "sealing.pem"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(ConfigError, match=complaint):
        open_sealing_key(path)
