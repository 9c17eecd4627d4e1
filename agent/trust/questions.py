"""What one update asks the controller for: metadata by name, within limits, each name only once."""

from collections.abc import Callable
from typing import Final

from agent.errors import EndlessData, Refused, TransportError
from protos.limits import metadata_limit

Fetch = Callable[[str], bytes]
"""The bytes of a metadata file by its name, such as ``3.root.json``; blocks.

Raises ``Refused`` with the code ``not-found`` if there is none, ``TransportError`` if no answer came.
"""

NOT_FOUND: Final = "not-found"


class Questions:
    """Asks, and remembers the answers; ``asked`` is the last name.

    Who gave no answer once is asked no more: an update waits for nobody twice.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._answers: dict[str, bytes | Refused] = {}
        self._silence: TransportError | None = None
        self.asked = ""

    def ask(self, name: str, limit: int | None = None) -> bytes:
        """The file, whole; ``limit`` in bytes, or that of its role if that is lower.

        Raises:
            Refused, TransportError: there is none.
            EndlessData: it is longer.
        """
        self.asked = name
        if name not in self._answers:
            if self._silence is not None:
                raise self._silence.with_traceback(None)
            try:
                self._answers[name] = self._fetch(name)
            except TransportError as silence:
                self._silence = silence
                raise
            except Refused as refused:
                if refused.code != NOT_FOUND:
                    raise
                self._answers[name] = refused
        answer = self._answers[name]
        if isinstance(answer, Refused):
            raise answer
        most = metadata_limit(name) if limit is None else min(limit, metadata_limit(name))
        if len(answer) > most:
            raise EndlessData(f"{name}: {len(answer)} bytes; {most} at most")
        return answer

    def answer(self) -> bytes:
        """What came for the last name; empty if nothing did."""
        answer = self._answers.get(self.asked, b"")
        return b"" if isinstance(answer, Refused) else answer
