"""The key that opens what devices say through a broker, as a file that only its owner can read."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from controller.errors import ConfigError
from controller.store.private_file import write_private


def open_sealing_key(path: Path) -> X25519PrivateKey:
    """The X25519 key in the file; a fresh one if there is none.

    Another key in its place only costs links: devices learn the new one from the controller's state.

    Raises:
        ConfigError: the file can't be read or written, is readable by others, or holds no such key.
    """
    try:
        mode = path.stat().st_mode & 0o777
        data = path.read_bytes()
    except FileNotFoundError:
        return _made(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"{path}: its mode is {mode:o}: others can read a private key; chmod 600")
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: it must hold a private key") from error
    if not isinstance(key, X25519PrivateKey):
        raise ConfigError(f"{path}: its key is not X25519")
    return key


def _made(path: Path) -> X25519PrivateKey:
    key = X25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_private(path, pem)
    return key
