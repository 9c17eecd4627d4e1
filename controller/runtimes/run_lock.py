"""Of one run one coordinator: the next one waits until the one before it is gone, however it went.

A controller that is killed takes its coordinators along, but one that is in the middle of a calculation
may outlive it for a moment; two that go on side by side could each count other replies.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.errors import StoreError

log = logging.getLogger(__name__)


@contextmanager
def alone(folder: Path, run: str) -> Iterator[None]:
    """The block is nobody else's; the kernel frees it with this process.

    What this process forks does not hold the lock after it, and nothing else here may open its file:
    who closes it gives the lock up.

    Raises:
        StoreError: the folder can't be written, or its file system has no locks.
    """
    path = folder / f"{run}.lock"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        try:
            _lock(lock, run)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        yield
    finally:
        os.close(lock)


def _lock(lock: int, run: str) -> None:
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        log.warning("coordinator.waits run=%s: another one is still there", run)
        fcntl.lockf(lock, fcntl.LOCK_EX)
