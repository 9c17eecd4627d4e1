"""What a person asks a running agent for: one empty file in its folder for each digest.

Only the agent writes to its database, so a command beside it leaves a file. Whoever may write in the
folder may ask.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.errors import StoreError
from agent.store.digest_name import digest_of

PREFIX: Final = "lift-"


class LiftRequests:
    """The requests that lie in an agent's folder."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def ask(self, manifest_sha256: str) -> None:
        """Leaves a request; asking twice is asking once.

        Raises:
            StoreError: nothing can be written there.
        """
        path = self._home / f"{PREFIX}{manifest_sha256}"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error

    def asked(self) -> Sequence[str]:
        """Digests that are asked for.

        Raises:
            StoreError: the folder can't be read.
        """
        try:
            names = sorted(path.name for path in self._home.iterdir())
        except OSError as error:
            raise StoreError(f"{self._home}: {error.strerror}") from error
        digests = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
        return [digest for digest in digests if digest_of(digest) == digest]

    def done(self, manifest_sha256: str) -> None:
        """Takes the request away.

        Raises:
            StoreError: it can't be.
        """
        path = self._home / f"{PREFIX}{manifest_sha256}"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
