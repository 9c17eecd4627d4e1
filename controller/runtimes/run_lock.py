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

    Raises:
        StoreError: the folder can't be written.
    """
    path = folder / f"{run}.lock"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("coordinator.waits run=%s: another one is still there", run)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
