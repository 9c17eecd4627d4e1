"""How versions are to be watched, as the newest directive says."""

import logging
from collections.abc import Callable, Mapping

from protos.documents import Directive, Watching
from protos.envelope import peek
from protos.errors import DocumentError

log = logging.getLogger(__name__)


class Wishes:
    """By the digest of a version's manifest; what nobody has wished for is not there.

    Args:
        directive: the envelope of the newest accepted directive; empty if there was none.
    """

    def __init__(self, directive: Callable[[], bytes]) -> None:
        self._directive = directive
        self._seen = b""
        self._found: Mapping[str, Watching] = {}

    def __call__(self) -> Mapping[str, Watching]:
        """What is wished for now. A directive that can't be read wishes for nothing.

        Raises:
            AgentError: the store failed.
        """
        envelope = self._directive()
        if envelope != self._seen:
            self._seen, self._found = envelope, _read(envelope)
        return self._found


def _read(envelope: bytes) -> Mapping[str, Watching]:
    if not envelope:
        return {}
    try:
        said = peek(envelope, Directive)
    except DocumentError as error:
        log.warning("monitor.directive-unreadable code=%s detail=%s", error.code, error.detail)
        return {}
    return {one.sha256: one.watching for one in said.assignments if one.watching != Watching()}
