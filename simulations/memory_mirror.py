"""A mirror without a network: for tests and simulations. Faults are switches."""

from collections.abc import AsyncGenerator, Callable

from agent.errors import EndlessData, Refused, TransportError
from protos.errors import DocumentError
from protos.limits import metadata_limit
from protos.mirror import blob_path, metadata_path


class MemoryMirror:
    """See ``Mirror``. ``files`` is its tree by path, which anybody may change.

    Attributes:
        down: whether nobody answers.
        breaks_after: of a blob, so many bytes come and then no more; None for all of them.
        asked: the paths that were asked for, in order.
    """

    def __init__(self, piece: int = 10_000) -> None:
        self.files: dict[str, bytes] = {}
        self.down = False
        self.breaks_after: int | None = None
        self.asked: list[str] = []
        self._piece = piece

    def metadata(self, name: str) -> bytes:
        """Image metadata by file name."""
        data = self._file(metadata_path, name)
        if len(data) > metadata_limit(name):
            raise EndlessData(f"{name}: {len(data)} bytes; {metadata_limit(name)} at most")
        return data

    async def fetch(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from ``offset`` on."""
        data = self._file(blob_path, sha256)
        end = len(data) if self.breaks_after is None else min(len(data), self.breaks_after)
        for start in range(offset, end, self._piece):
            yield data[start : min(end, start + self._piece)]
        if end < len(data):
            raise TransportError("the mirror is gone")

    def _file(self, path_of: Callable[[str], str], name: str) -> bytes:
        try:
            path = path_of(name)
        except DocumentError as error:
            raise TransportError(error.detail) from error
        self.asked.append(path)
        if self.down:
            raise TransportError("the mirror does not answer")
        if path not in self.files:
            raise Refused("not-found", f"the mirror has no {path}", "")
        return self.files[path]
