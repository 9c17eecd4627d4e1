"""Key files: NAME.pem (PKCS#8, mode 0600) and NAME.json, its public half and where the private is."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from securesystemslib.exceptions import Error as SecuresystemslibError

from controller.errors import ConfigError, Conflict, NotFound
from controller.signing.keyring import (
    FILE_SCHEME,
    KEY_FILE_BYTES,
    PublicKeyFile,
    check_name,
    decode,
    encode,
)
from protos.keys import CryptoSigner, Key, Signer

_UNFIT_FOR_URIS: Final = frozenset("#?;%")


class KeyFiles:
    """The keys in one folder, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, name: str, holder: str = "") -> Key:
        """Makes an Ed25519 key; returns its public half. ``holder`` is what people call its owner.

        Raises:
            Conflict: there is a key of that name.
            InvalidInput: the name is none.
            ConfigError: the folder can't be written.
        """
        check_name(name)
        signer = CryptoSigner.generate_ed25519()
        entry = PublicKeyFile(holder or name, signer.public_key, f"{FILE_SCHEME}{name}.pem")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_new(self._folder / f"{name}.pem", signer.private_bytes, 0o600)
            _write_new(self._folder / f"{name}.json", encode(entry), 0o644)
        except FileExistsError as error:
            raise Conflict(f"{error.filename} is there already") from error
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from error
        return signer.public_key

    def names(self) -> Sequence[str]:
        """Every key of the folder."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def public(self, name: str) -> PublicKeyFile:
        """The public half.

        Raises:
            NotFound: there is no such key.
            InvalidInput: its file is no key file.
        """
        return read_public_key(self._folder / f"{check_name(name)}.json")

    def signer(self, name: str) -> Signer:
        """What signs with the key: a file, an HSM or a KMS, as the URI in its JSON file says.

        Raises:
            NotFound: there is no such key.
            ConfigError: the private key can't be used, or others may read it.
        """
        entry = self.public(name)
        if not entry.uri:
            raise ConfigError(f"{self._folder / name}.json: no `uri`, so nothing can be signed")
        uri = self._absolute(entry.uri)
        try:
            return Signer.from_priv_key_uri(uri, entry.key)
        except FileNotFoundError as error:
            raise NotFound(f"{uri.removeprefix(FILE_SCHEME)}: no such private key") from error
        except (OSError, ValueError, SecuresystemslibError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{self._folder / name}.json: {entry.uri}: {error}") from error

    def _absolute(self, uri: str) -> str:
        if not uri.startswith(FILE_SCHEME):
            return uri
        path = (self._folder / uri.removeprefix(FILE_SCHEME)).absolute()
        if _UNFIT_FOR_URIS & set(str(path)):
            raise ConfigError(
                f"{path}: a path of a key must be without {' '.join(_UNFIT_FOR_URIS)}"
            )
        if path.exists() and path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: others may read it; set it right with `chmod 600 {path}`")
        return f"{FILE_SCHEME}{path}"


def read_public_key(path: Path, holder: str = "") -> PublicKeyFile:
    """The public key file at ``path``; with another holder's name if ``holder`` is given.

    Raises:
        NotFound: it is not there.
        InvalidInput: it is no key file.
        ConfigError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            entry = decode(file.read(KEY_FILE_BYTES + 1), str(path))
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such key file") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return replace(entry, holder=holder) if holder else entry


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Writes a file that was not there, durably, and never with wider rights than ``mode``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
