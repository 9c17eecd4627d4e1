"""The controller's end of gRPC links: ``muster.v1.Device`` over mTLS."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
from google.protobuf.message import DecodeError

from agent.identity.keys import read_certificate
from controller.enrolment.authority import KeyPair
from controller.errors import (
    ControllerError,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    TooManyCalls,
    TooOften,
)
from controller.transport.courier import Endpoint
from controller.transport.grpc.channel import bind, options, refuse
from controller.transport.grpc.session import Context, GrpcSession
from controller.transport.sessions import Sessions
from protos.limits import MESSAGE_BYTES
from protos.methods import METHODS
from protos.v1 import device_pb2

SERVICE = "muster.v1.Device"
CALLS = 32
"""Of one device at once, over however many connections: it may not take the others' turn."""
STREAMS = CALLS
"""What one connection may ask at once: each may be a message of the largest size, in memory."""

log = logging.getLogger(__name__)


class GrpcServer:
    """Serves devices: their sessions stand in the book, with those of other transports."""

    def __init__(
        self, endpoint: Endpoint, sessions: Sessions, server: KeyPair, device_ca_pem: bytes
    ) -> None:
        self._endpoint = endpoint
        self._sessions = sessions
        self._credentials = grpc.ssl_server_credentials(
            [(server.key_pem, server.certificate_pem)], device_ca_pem, require_client_auth=True
        )
        self._server: grpc.aio.Server | None = None
        self._running: defaultdict[str, set[asyncio.Task[object]]] = defaultdict(set)
        self._cut: set[asyncio.Task[object]] = set()
        sessions.serve(self._cut_all)

    async def start(self, address: str) -> int:
        """Begins to serve on host:port; returns the port (which is chosen if it was 0).

        Raises:
            ConfigError: the address is taken, or is none of this machine's.
        """
        server = grpc.aio.server(options=options(MESSAGE_BYTES, STREAMS))
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method.grpc_path.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(
                self._answering(method.name)
            )
            for method in METHODS.values()
        }
        methods["Fetch"] = grpc.unary_stream_rpc_method_handler(self._fetch)
        methods["Session"] = grpc.stream_stream_rpc_method_handler(self._session)
        handlers = grpc.method_handlers_generic_handler(SERVICE, methods)
        server.add_generic_rpc_handlers((handlers,))
        port = bind(server, address, self._credentials)
        await server.start()
        self._server = server
        return port

    async def stop(self, grace: float = 1.0) -> None:
        """Cuts every link; returns when all departures have been told. May be called twice."""
        for device in list(self._running):
            await self._sessions.disconnect(device)
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None
        await self._sessions.settle()

    def _cut_all(self, device: str) -> None:
        for task in tuple(self._running.get(device, ())):
            self._cancel(task)

    def _answering(self, method: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def answer(request: bytes, context: Context) -> bytes:
            async with self._caller(context) as device:
                return await self._endpoint.call(device, method, request)

        return answer

    async def _fetch(self, data: bytes, context: Context) -> None:
        async with self._caller(context) as device:
            try:
                request = device_pb2.FetchRequest.FromString(data)
            except DecodeError as error:
                raise InvalidInput("fetch: a request that can't be read") from error
            pieces = self._endpoint.fetch(
                device, request.sha256, request.offset, tuple(request.have)
            )
            async for piece in pieces:
                await context.write(device_pb2.Chunk(data=piece).SerializeToString())

    async def _session(self, _: object, context: Context) -> None:
        async with self._caller(context) as device:
            task = _this_task()
            _, serial = _identity(context)
            session = GrpcSession(device, serial, context, lambda: self._cancel(task))
            try:
                await self._sessions.arrive(session)
                await session.open()
                await session.listen(self._endpoint)
            finally:
                session.close()
                self._sessions.leave(session)

    def _cancel(self, task: asyncio.Task[object]) -> None:
        if not task.done() and task is not asyncio.current_task():
            self._cut.add(task)
            task.cancel()

    @asynccontextmanager
    async def _caller(self, context: Context) -> AsyncIterator[str]:
        """The device that calls, admitted; our errors become gRPC's, and a cut ends the call."""
        task = _this_task()
        device = ""
        try:
            device, serial = _identity(context)
            self._running[device].add(task)
            if len(self._running[device]) > CALLS:
                raise TooManyCalls(f"device {device!r} has {CALLS} calls under way already")
            await self._endpoint.admit(device, serial)
            yield device
        except ControllerError as error:
            # Devices ask for the next root until there is none: that is no news, nor is their haste.
            level = logging.DEBUG if isinstance(error, NotFound | TooOften) else logging.INFO
            log.log(level, "call.refused device=%s code=%s: %s", device, error.code, error.detail)
            await refuse(context, error)
        except asyncio.CancelledError:
            if task not in self._cut:
                raise
            task.uncancel()
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the controller cut the link")
        finally:
            self._cut.discard(task)
            self._running[device].discard(task)
            if not self._running[device]:
                del self._running[device]


def _identity(context: Context) -> tuple[str, str]:
    """Device id and certificate serial, from the certificate that TLS has verified."""
    certificates = list(context.auth_context().get("x509_pem_cert", ()))
    if not certificates:
        raise NotAuthenticated("the caller has shown no certificate")
    certificate = read_certificate(certificates[0])
    return certificate.device, certificate.serial


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine of gRPC's always runs in one
    return task
