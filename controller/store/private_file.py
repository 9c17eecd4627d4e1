"""Files that hold private keys."""

import os
from pathlib import Path

from controller.errors import ConfigError


def write_private(path: Path, data: bytes) -> None:
    """Writes all of the file, durably, or leaves what was there; only its owner can ever read it.

    Raises:
        ConfigError: it can't be written.
    """
    scratch = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - by descriptor, for its mode
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
