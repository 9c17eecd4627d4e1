"""The folder that a broker runs from: written whole, and never over anything else."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from controller.broker.folder import BrokerFile
from controller.errors import Conflict, StoreError


def write_broker_folder(folder: Path, files: Sequence[BrokerFile]) -> None:
    """Writes the files; those of an earlier time are replaced, each at once.

    Raises:
        Conflict: there are other things in the folder, or it is none.
        StoreError: it can't be written.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise Conflict(f"{folder} is a file, no folder", _ANOTHER)
        there = {one.name for one in folder.iterdir()} if folder.exists() else set()
        if others := sorted(there - {one.name for one in files}):
            raise Conflict(f"{folder} has other things in it: {others[0]!r}"[:300], _ANOTHER)
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        for one in files:
            write_broker_file(folder / one.name, one.data, secret=one.secret)
    except OSError as error:
        raise not_written(Path(error.filename or folder), error) from error


def not_written(path: Path, error: OSError) -> StoreError:
    """What a person is told who may not write there, or can't."""
    return StoreError(
        f"{path}: {error.strerror}", "Name another place, or run this as who may write there."
    )


def write_broker_file(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Writes the file, or leaves what was there; its owner and group stay what they were.

    Raises:
        OSError: it can't be written.
    """
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(scratch, flags, 0o600 if secret else 0o644)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - by descriptor, for its mode
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileNotFoundError):
        former = path.stat()
        # Mosquitto reads its key anew as the user that it has become.
        os.chown(scratch, former.st_uid, former.st_gid)
    scratch.replace(path)


_ANOTHER = "Name a folder that is empty or missing, or one that `muster mqtt setup` has made."
