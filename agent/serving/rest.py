"""The REST face of the Open Inference Protocol, version 2, as one ASGI application.

No framework: it would weigh more than all of this, and answer no faster.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any, Final

from agent.errors import AgentError, InvalidRequest
from agent.inference.actions import infer
from agent.serving.browser import objection
from agent.serving.collecting import NOTHING, Collecting
from agent.serving.description import (
    EXTENSIONS,
    PLATFORM,
    SERVER_NAME,
    SERVER_VERSION,
    Hosting,
    described,
    version_of,
)
from agent.serving.exposition import Measured, exposition, nothing, of_inference
from agent.serving.metrics_page import MetricsPage
from agent.serving.rest_body import COMPRESSED, IDENTITY, Bodies, Receive
from agent.serving.rest_examples import of_examples, of_feedback
from agent.serving.rest_request import parse
from agent.serving.rest_response import Response, as_error, as_json, as_text, of_answer, of_error
from agent.serving.workers import Workers
from protos.limits import INFER_BYTES
from protos.manifest import Tensor

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answering = Callable[[Scope, Receive], Awaitable[Response | None]]
Posted = Callable[[bytes, int | None], Response]
"""Answers a body, of whose head so many bytes are JSON; None: all of it."""

ModelAnswering = Callable[[str, str, Scope, Receive], Awaitable[Response | None]]

_LENGTH_HEADER: Final = b"inference-header-content-length"


class RestApplication:
    """Answers over ASGI.

    Args:
        limit: of a body, in bytes, compressed and not.
        any_host: see ``agent.serving.browser``.
        collecting: keeps what is learnt from.
        measured: what Prometheus is told besides; called on a thread.
    """

    def __init__(
        self,
        hosting: Hosting,
        workers: Workers,
        limit: int = INFER_BYTES,
        *,
        any_host: bool = False,
        collecting: Collecting = NOTHING,
        measured: Measured = nothing,
    ) -> None:
        self._any_host = any_host
        self._hosting = hosting
        self._workers = workers
        self._bodies = Bodies(limit)
        self._collecting = collecting
        self._page = MetricsPage(lambda: exposition([*of_inference(hosting), *measured()]))
        self._routes: dict[tuple[str, ...], tuple[str, Answering]] = {
            ("metrics",): ("GET", self._metrics),
            ("v2",): ("GET", self._server),
            ("v2", "health", "live"): ("GET", self._live),
            ("v2", "health", "ready"): ("GET", self._ready),
            ("v2", "models"): ("GET", self._models),
            ("v2", "repository", "index"): ("POST", self._index),
        }
        self._model_routes: dict[tuple[str, ...], tuple[str, ModelAnswering]] = {
            (): ("GET", self._metadata),
            ("ready",): ("GET", self._model_ready),
            ("infer",): ("POST", self._infer),
            ("feedback",): ("POST", self._feedback),
            ("examples",): ("POST", self._examples),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            response = await self._respond(scope, receive)
        except AgentError as error:
            response = of_error(error)
        if response is None:  # the client has gone
            return
        length = (b"content-length", str(len(response.body)).encode())
        headers = [*response.headers, length]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(self, scope: Scope, receive: Receive) -> Response | None:
        refused = objection(dict(scope["headers"]), any_host=self._any_host)
        if refused:
            return as_error(403, refused)
        route = self._route(tuple(scope["path"].strip("/").split("/")))
        if route is None:
            return as_error(404, f"no such path: {scope['path'][:200]}")
        method, answer = route
        if scope["method"] != method:
            allow = (b"allow", method.encode())
            return as_error(405, f"{scope['path'][:200]} takes {method}", allow)
        return await answer(scope, receive)

    def _route(self, path: tuple[str, ...]) -> tuple[str, Answering] | None:
        """The method that the path takes, and what answers it."""
        if path[:2] != ("v2", "models") or len(path) < 3:
            return self._routes.get(path)
        model, rest = path[2], path[3:]
        version = ""
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        found = self._model_routes.get(rest)
        return None if found is None else (found[0], partial(found[1], model, version))

    # --- What is here -----------------------------------------------------------------------------

    async def _server(self, _: Scope, __: Receive) -> Response:
        return as_json(
            200, {"name": SERVER_NAME, "version": SERVER_VERSION, "extensions": EXTENSIONS}
        )

    async def _live(self, _: Scope, __: Receive) -> Response:
        return as_json(200, {"live": True})

    async def _ready(self, _: Scope, __: Receive) -> Response:
        ready = self._hosting.ready()
        # The specification shows "live" here, its clients read "ready": both are told.
        return as_json(200 if ready else 503, {"live": True, "ready": ready})

    async def _models(self, _: Scope, __: Receive) -> Response:
        names = sorted({one.model for one in self._hosting.hosted()})
        return as_json(200, {"models": names})

    async def _index(self, _: Scope, receive: Receive) -> Response | None:
        with self._bodies.holding() as hold:
            if await self._bodies.read(receive, hold) is None:
                return None
        index = [
            {
                "name": one.model,
                "version": str(one.version),
                "state": "READY" if one.ready else "LOADING",
                "reason": "",
            }
            for one in self._hosting.hosted()
        ]
        return as_json(200, index)

    async def _metadata(self, model: str, version: str, _: Scope, __: Receive) -> Response:
        manifest, versions = described(self._hosting, model, version)
        return as_json(
            200,
            {
                "name": model,
                "versions": versions,
                "platform": PLATFORM,
                "inputs": _tensors(manifest.inputs),
                "outputs": _tensors(manifest.outputs),
            },
        )

    async def _model_ready(self, model: str, version: str, _: Scope, __: Receive) -> Response:
        self._hosting.get(model, version_of(model, version))  # raises what is the matter
        return as_json(200, {"name": model, "ready": True})

    async def _metrics(self, _: Scope, __: Receive) -> Response:
        return as_text(await self._page.text())

    # --- Inference, and what is learnt from ---------------------------------------------------------

    async def _infer(
        self, model: str, version: str, scope: Scope, receive: Receive
    ) -> Response | None:
        number = version_of(model, version)

        def answer(body: bytes, header_length: int | None) -> Response:
            request = parse(body, header_length)
            given = infer(self._hosting, model, number, request.inputs, request.outputs)
            self._collecting.answered(model, given.version, request.id or "", request.inputs)
            return of_answer(model, request, given)

        return await self._posted(scope, receive, answer)

    async def _feedback(
        self, model: str, version: str, scope: Scope, receive: Receive
    ) -> Response | None:
        number = version_of(model, version)
        return await self._posted(
            scope, receive, lambda body, _: of_feedback(self._collecting, model, number, body)
        )

    async def _examples(
        self, model: str, version: str, scope: Scope, receive: Receive
    ) -> Response | None:
        number = version_of(model, version)
        return await self._posted(
            scope,
            receive,
            lambda body, length: of_examples(self._collecting, model, number, body, length),
        )

    async def _posted(self, scope: Scope, receive: Receive, answer: Posted) -> Response | None:
        """What ``answer`` returns on a thread; None if the client went away."""
        headers = dict(scope["headers"])
        encoding = headers.get(b"content-encoding", IDENTITY).lower()
        if encoding != IDENTITY and encoding not in COMPRESSED:
            return as_error(415, f"Content-Encoding: {encoding!r} is none of gzip, deflate")
        header_length = _header_length(headers)

        def answered(body: bytes) -> Response:
            return answer(self._bodies.inflated(body, encoding), header_length)

        with self._bodies.holding() as hold:
            body = await self._bodies.read(receive, hold, headers.get(b"content-length"))
            return None if body is None else await self._workers.run(partial(answered, body))


def _header_length(headers: dict[bytes, bytes]) -> int | None:
    text = headers.get(_LENGTH_HEADER)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise InvalidRequest(f"Inference-Header-Content-Length: {text[:40]!r} is no length")
    return int(text)


def _tensors(tensors: Iterable[Tensor]) -> list[dict[str, Any]]:
    return [{"name": one.name, "datatype": one.dtype, "shape": one.shape} for one in tensors]
