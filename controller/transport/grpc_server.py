"""The controller's end of gRPC links: ``muster.v1.Device`` over mTLS. A ``Courier``."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import grpc
from google.protobuf.message import DecodeError

from agent.identity.keys import read_certificate
from controller.enrolment.authority import KeyPair
from controller.errors import (
    ControllerError,
    DeviceOffline,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    TooManyCalls,
)
from controller.transport.courier import Endpoint
from controller.transport.enrolment_server import bind
from controller.transport.grpc_channel import options, refuse
from controller.transport.grpc_session import Context, Session
from protos.limits import MESSAGE_BYTES
from protos.methods import METHODS
from protos.v1 import device_pb2

SERVICE = "muster.v1.Device"
CALLS = 32
"""Of one device at once, over however many connections: it may not take the others' turn."""
STREAMS = CALLS
"""What one connection may ask at once: each may be a message of the largest size, in memory."""

log = logging.getLogger(__name__)


class GrpcCourier:
    """Serves devices, and brings commands to those that have a live session."""

    def __init__(self, endpoint: Endpoint, server: KeyPair, device_ca_pem: bytes) -> None:
        self._endpoint = endpoint
        self._credentials = grpc.ssl_server_credentials(
            [(server.key_pem, server.certificate_pem)], device_ca_pem, require_client_auth=True
        )
        self._server: grpc.aio.Server | None = None
        self._sessions: dict[str, Session] = {}
        self._running: defaultdict[str, set[asyncio.Task[object]]] = defaultdict(set)
        self._cut: set[asyncio.Task[object]] = set()
        self._notices: set[asyncio.Task[None]] = set()
        # Arrivals and departures of one device are told one after the other.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

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
            await self.disconnect(device)
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None
        while self._notices:
            await asyncio.wait(self._notices)

    async def send(self, device: str, command: bytes) -> None:
        """Queues the command for the device's session; see ``Courier``."""
        session = self._sessions.get(device)
        if session is None:
            raise DeviceOffline(f"device {device!r} has no live link to this controller")
        session.send(command)

    def connected(self) -> frozenset[str]:
        """Devices with a live session."""
        return frozenset(self._sessions)

    async def disconnect(self, device: str) -> None:
        """Ends the device's session and every call and fetch of it that runs."""
        session = self._sessions.get(device)
        if session is not None:
            self._leave(session)
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
            turn = self._turns.setdefault(device, asyncio.Lock())
            session = Session(device, context, _this_task(), turn)
            older = self._sessions.get(device)
            self._sessions[device] = session
            if older is not None:
                log.info("session.replaced device=%s", device)
                self._cancel(older.task)
            try:
                async with turn:
                    await self._endpoint.connected(device)
                await session.open()
                _, serial = _identity(context)
                log.info("session.up device=%s certificate=%s", device, serial)
                await session.listen(self._endpoint)
            finally:
                session.close()
                self._leave(session)

    def _leave(self, session: Session) -> None:
        """Tells that the device is gone, unless a newer session has taken its place."""
        if self._sessions.get(session.device) is session:
            del self._sessions[session.device]
            notice = asyncio.create_task(self._tell_departure(session))
            self._notices.add(notice)
            notice.add_done_callback(self._notices.discard)

    async def _tell_departure(self, session: Session) -> None:
        async with session.turn:
            if session.device in self._sessions:
                return  # it came back in the meantime, and its arrival was or will be told
            log.info("session.down device=%s", session.device)
            try:
                await self._endpoint.disconnected(session.device)
            except ControllerError as error:
                log.warning("session.departure-lost device=%s: %s", session.device, error.detail)

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
            # Devices ask for the next root until there is none: that is no news.
            level = logging.DEBUG if isinstance(error, NotFound) else logging.INFO
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
