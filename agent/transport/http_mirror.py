"""A mirror over HTTP/1.1, with the standard library: what devices ask of it is one GET at a time.

Every request has an end: a mirror that says nothing, or one byte now and then, is left after its
time, so that it can hold up neither a refresh nor a download.
"""

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar

from agent.config import Mirroring
from agent.errors import ConfigError, EndlessData, Refused, TransportError
from agent.transport.mirror import MirrorAddress, mirror_address
from protos.errors import DocumentError
from protos.limits import BLOB_BYTES, KIB, metadata_limit
from protos.mirror import blob_path, metadata_path

PIECE_BYTES: Final = 64 * KIB
# Who may not list an S3 bucket is told 403 about a file that is not there.
ABSENT: Final = frozenset({403, 404, 410})
_REMEDY: Final = "Bring the mirror up to date with `muster mirror sync`."

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds.

    Attributes:
        silence: until a connection stands, and between any two bytes.
        answer: until a blob begins to come; until a whole file of metadata is there.
        piece: for each 64 KiB of a blob: what comes slower than 3 KiB a second is not near.
    """

    silence: float = 15.0
    answer: float = 30.0
    piece: float = 20.0


class HttpMirror:
    """See ``Mirror``. It keeps no connection: each request has its own."""

    def __init__(
        self,
        address: MirrorAddress,
        context: ssl.SSLContext | None = None,
        patience: Patience | None = None,
    ) -> None:
        """``context`` is needed where the address is https, and says whom to believe there."""
        self._address = address
        self._context = context
        self._patience = patience or Patience()

    def metadata(self, name: str) -> bytes:
        """Image metadata by file name."""
        path = _path(metadata_path, name)
        exchange = self._exchange(path)
        end = threading.Timer(self._patience.answer, exchange.end)
        end.daemon = True
        end.start()
        try:
            exchange.begin(0)
            return exchange.whole(metadata_limit(name))
        finally:
            end.cancel()
            exchange.end()

    async def fetch(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from ``offset`` on."""
        exchange = self._exchange(_path(blob_path, sha256))
        try:
            unasked = await _within(self._patience.answer, lambda: exchange.begin(offset))
            while piece := await _within(self._patience.piece, exchange.read):
                rest, unasked = piece[unasked:], max(0, unasked - len(piece))
                if rest:
                    yield rest
        finally:
            exchange.end()

    def _exchange(self, path: str) -> "Exchange":
        return Exchange(self._address, self._context, self._patience.silence, path)


class Exchange:
    """One request and its answer. ``end`` may be called from any thread, the rest from one."""

    def __init__(
        self, address: MirrorAddress, context: ssl.SSLContext | None, silence: float, path: str
    ) -> None:
        self._address = address
        self._context = context
        self._silence = silence
        self._where = f"{address}/{path}"
        self._path = f"{address.path}/{path}"
        self._using = threading.Lock()
        self._undo = contextlib.ExitStack()
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._ended = False

    def begin(self, offset: int) -> int:
        """Asks for the bytes from ``offset`` on; returns how many of those before come all the same.

        A server that knows no ranges sends everything again.

        Raises:
            TransportError: no such answer came.
            Refused: the mirror does not have it.
        """
        with self._working():
            connection = self._connected()
            asked = {"Host": self._address.authority, "Connection": "close"}
            if offset:
                asked["Range"] = f"bytes={offset}-"
            connection.request("GET", self._path, headers=asked)
            response = connection.getresponse()
            self._undo.callback(response.close)
            return self._take(response, offset)

    def read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            TransportError: they did not come.
        """
        with self._working():
            return self._next()

    def whole(self, limit: int) -> bytes:
        """All bytes.

        Raises:
            TransportError: they did not come.
            EndlessData: more than ``limit``.
        """
        if self._response is not None and (self._response.length or 0) > limit:
            raise EndlessData(f"{self._where}: {self._response.length} bytes; {limit} at most")
        data = bytearray()
        while piece := self.read():
            data += piece
            if len(data) > limit:
                raise EndlessData(f"{self._where}: more than {limit} bytes")
        return bytes(data)

    def end(self) -> None:
        """Ends it, also while another thread waits for bytes. May be called twice."""
        self._ended = True
        used = self._socket
        if used is not None:
            with contextlib.suppress(OSError):
                # The socket's own: a TLS socket's would pull the rug from under who reads.
                socket.socket.shutdown(used, socket.SHUT_RDWR)
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        """Only who uses the descriptor may close it: its number would soon be another's."""
        if self._using.acquire(blocking=False):
            try:
                self._undo.close()
            finally:
                self._using.release()

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        try:
            with self._using, self._translated():
                if self._ended:
                    raise TransportError(f"{self._where}: it was ended")
                yield
        finally:
            if self._ended:
                self._close_if_unused()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Our errors for whatever sockets, TLS and HTTP raise."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise TransportError(f"{self._where}: {error.verify_message}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise TransportError(f"{self._where}: {why}") from error

    def _connected(self) -> http.client.HTTPConnection:
        address = self._address
        plain = socket.create_connection((address.host, address.port), self._silence)
        self._undo.callback(plain.close)
        used = plain
        if self._context is not None:
            used = self._context.wrap_socket(
                plain, server_hostname=address.host, do_handshake_on_connect=False
            )
            self._undo.callback(used.close)
        self._socket = used
        if self._ended:  # just before there was a socket to shut down
            raise TransportError(f"{self._where}: it was ended")
        if isinstance(used, ssl.SSLSocket):
            used.do_handshake()
        connection = http.client.HTTPConnection(address.host, address.port)
        connection.sock = used
        return connection

    def _take(self, response: http.client.HTTPResponse, offset: int) -> int:
        status = response.status
        if status in ABSENT:
            raise Refused("not-found", f"{self._where}: the mirror does not have it", _REMEDY)
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            return 0  # nothing is left there
        if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            raise TransportError(f"{self._where}: answered with status {status}")
        if response.length is None and not response.chunked:
            raise TransportError(f"{self._where}: the answer does not say where it ends")
        if (response.length or 0) > BLOB_BYTES:
            raise TransportError(f"{self._where}: {response.length} bytes; {BLOB_BYTES} at most")
        self._response = response
        if status == HTTPStatus.OK:
            return offset
        shown = response.getheader("Content-Range", "")
        if not offset or not shown.startswith(f"bytes {offset}-"):
            raise TransportError(f"{self._where}: not the bytes asked for, but {shown[:80]!r}")
        return 0

    def _next(self) -> bytes:
        response = self._response
        if response is None:
            return b""
        piece = response.read(PIECE_BYTES)
        if not piece and response.length:
            raise TransportError(f"{self._where}: {response.length} bytes less than announced")
        return piece


def configured_mirror(wanted: Mirroring, folder: Path) -> HttpMirror:
    """The mirror of ``[mirror]`` in the ``agent.toml`` of ``folder``, which names one.

    Over https it must show a certificate of the CA that is named, or of one of the system's.

    Raises:
        ConfigError: its address or its CA can't be used; names the key.
    """
    address = mirror_address(wanted.url, allow_plain=wanted.allow_plain)
    if not address.secure:
        return HttpMirror(address)
    ca = folder / wanted.ca if wanted.ca else None
    try:
        return HttpMirror(address, ssl.create_default_context(cafile=ca))
    except OSError as error:  # ssl.SSLError is one
        why = "not a certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"[mirror] ca: {ca}: {why}") from error


def _path(make: Callable[[str], str], name: str) -> str:
    try:
        return make(name)
    except DocumentError as error:
        raise TransportError(f"no mirror has this: {error.detail}") from error


async def _within(seconds: float, work: Callable[[], Result]) -> Result:
    """What ``work`` returns, on a thread; who gives up on it ends what it works on."""
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.to_thread(work)
    except TimeoutError as error:
        raise TransportError(f"the mirror was too slow: nothing within {seconds:g} s") from error
