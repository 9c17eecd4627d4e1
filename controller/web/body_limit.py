"""Refuses bodies of strangers, and bodies that are too large, before anything of them is parsed.

A route's own check of the token comes too late for that: the framework has read the body by then,
and many half-sent ones would fill the memory.
"""

import re
from typing import Final

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.errors import ControllerError, TooLarge
from controller.web.access import caller
from controller.web.problem import refused
from controller.web.registration_form import FORM_BYTES
from protos.limits import METADATA_BYTES, MIB

DEFAULT_BYTES: Final = 1 * MIB
_BODILESS: Final = frozenset({"GET", "HEAD"})  # no route of these methods reads a body
_LIMITS: Final = (
    # Metadata travels as a JSON string, in which every quote takes one byte more.
    (re.compile(r"/api/v1/(targets|root)(/.*)?"), 3 * METADATA_BYTES["targets"]),
    (re.compile(r"/api/v1/models/[^/]+/versions"), FORM_BYTES),
    # A file travels as a JSON string, too; what is too large is then told as such.
    (re.compile(r"/api/v1/fleets/(plan|apply)"), 3 * MIB),
)


def limit_of(path: str) -> int:
    """How many bytes the body of a request to ``path`` may have."""
    return next((limit for pattern, limit in _LIMITS if pattern.fullmatch(path)), DEFAULT_BYTES)


class BodyLimit:
    """ASGI middleware: 413 as soon as a body is, or says that it will be, too large.

    401 before a body is read whose sender shows no token that is valid.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = limit_of(scope["path"])
        error = TooLarge(f"body: more than {limit} bytes")
        if _announced(scope) > limit:
            await refused(error)(scope, receive, send)
            return
        if scope["method"] not in _BODILESS:
            try:
                await run_in_threadpool(caller, Request(scope), scope["app"].state.services)
            except ControllerError as unknown:
                await refused(unknown)(scope, receive, send)
                return
        body = _Body(receive, send, limit, error)
        await self._app(scope, body.receive, body.send)
        if body.too_large and not body.started:
            await refused(error)(scope, receive, send)


class _Body:
    """Counts what comes in; what the application says of a body that was cut is not sent on."""

    def __init__(self, receive: Receive, send: Send, limit: int, error: TooLarge) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._error = error
        self._seen = 0
        self.too_large = False
        self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                self.too_large = True
                raise self._error
        return message

    async def send(self, message: Message) -> None:
        if self.too_large and not self.started:
            return
        self.started = True
        await self._send(message)


def _announced(scope: Scope) -> int:
    """Content-Length; 0 where there is none, or none that is a number: then the bytes are counted."""
    found = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(found) if found.isdigit() and len(found) < 20 else 0
