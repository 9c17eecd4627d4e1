"""A web server that a mirror's tree can be had from, well or badly, as a test says."""

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Visit", bytes | None], None]
"""What the server does with a request for a file, which may be none."""


class Visit(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    site: "Site"

    def do_GET(self) -> None:
        self.site.asked.append((self.path, self.headers.get("Range", "")))
        self.site.reached.set()
        with contextlib.suppress(OSError):  # the client may have had enough
            self.site.answer(self, self.site.files.get(self.path.lstrip("/")))
        self.close_connection = True

    def head(self, status: int, **fields: object) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@dataclass
class Site:
    """What the server has, was asked, and does.

    Attributes:
        files: by path.
        asked: the path and the Range header of every request, in order.
        reached: that somebody has asked.
        gate: what waits, waits for it; it is set when the server ends.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    answer: Answer = field(default_factory=lambda: with_ranges)


def plain(visit: Visit, data: bytes | None) -> None:
    """A server that knows no ranges."""
    if data is None:
        visit.head(404, Content_Length=0)
        return
    visit.head(200, Content_Length=len(data))
    visit.wfile.write(data)


def with_ranges(visit: Visit, data: bytes | None) -> None:
    """A server as nginx is one."""
    start = int((visit.headers.get("Range") or "bytes=0-")[6:-1])
    if data is None or not start:
        plain(visit, data)
    elif start >= len(data):
        visit.head(416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
    else:
        rest = data[start:]
        shown = f"bytes {start}-{len(data) - 1}/{len(data)}"
        visit.head(206, Content_Range=shown, Content_Length=len(rest))
        visit.wfile.write(rest)


@contextlib.contextmanager
def serving(site: Site, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that serves the site until the block ends."""
    visit = type("SiteVisit", (Visit,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), visit) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            port = server.server_address[1]
            yield f"{'http' if context is None else 'https'}://127.0.0.1:{port}"
        finally:
            site.gate.set()
            server.shutdown()
            thread.join()
