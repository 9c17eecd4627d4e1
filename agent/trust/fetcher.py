"""Feeds python-tuf from the link: metadata by name, within limits, each name asked for only once."""

from collections.abc import Callable, Iterator

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from agent.errors import AgentError, EndlessData, Refused
from protos.limits import METADATA_BYTES

Fetch = Callable[[str], bytes]
"""The bytes of a metadata file by its name, such as ``3.root.json``; blocks.

Raises ``Refused`` with the code ``not-found`` if there is none, ``TransportError`` if no answer came.
"""

BASE_URL = "muster:///"
NOT_FOUND = "not-found"


class MetadataFetcher(FetcherInterface):
    """What one update has asked the controller for; ``asked`` is the last name."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch_name = fetch
        self._answers: dict[str, bytes | Refused] = {}
        self.asked = ""

    def ask(self, name: str, limit: int | None = None) -> bytes:
        """The file, whole; ``limit`` in bytes, or that of its role.

        Raises:
            Refused, TransportError: there is none.
            EndlessData: it is longer.
        """
        self.asked = name
        if name not in self._answers:
            try:
                self._answers[name] = self._fetch_name(name)
            except Refused as refused:
                if refused.code != NOT_FOUND:
                    raise
                self._answers[name] = refused
        answer = self._answers[name]
        if isinstance(answer, Refused):
            raise answer
        most = _limit_of(name) if limit is None else min(limit, _limit_of(name))
        if len(answer) > most:
            raise EndlessData(f"{name}: {len(answer)} bytes; {most} at most")
        return answer

    def answer(self) -> bytes:
        """What came for the last name; empty if nothing did."""
        answer = self._answers.get(self.asked, b"")
        return b"" if isinstance(answer, Refused) else answer

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """As the interface says, without its temporary file: metadata is small."""
        try:
            return self.ask(url.removeprefix(BASE_URL), max_length)
        except Refused as refused:
            if refused.code != NOT_FOUND:
                raise DownloadError(str(refused)) from refused
            raise DownloadHTTPError(str(refused), 404) from refused
        except AgentError as error:
            raise DownloadError(str(error)) from error

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter((self.ask(url.removeprefix(BASE_URL)),))


def _limit_of(name: str) -> int:
    """``name`` is ROLE.json or VERSION.ROLE.json."""
    role = name.removesuffix(".json").rpartition(".")[2]
    return METADATA_BYTES.get(role, METADATA_BYTES["targets"])
