"""A ``Link`` over gRPC: one mTLS connection, and on it one session stream."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from agent.errors import AgentError, TransportError, WrongController
from agent.transport.grpc.channel import Unary, open_channel, refused, translated
from agent.transport.inbox import Inbox
from protos.methods import ADMITTED_KEY, FETCH_PATH, METHODS, SESSION_PATH
from protos.v1 import device_pb2

Session: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"
Stream: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[bytes, bytes]"

CALL_SECONDS: Final = 60.0
STALL_SECONDS: Final = 60.0


class GrpcDialer:
    """Dials the controller's session address."""

    def __init__(
        self,
        address: str,
        server_ca_pem: bytes,
        key_pem: bytes,
        certificate_pem: Callable[[], bytes],
        timeout: float = 20.0,
    ) -> None:
        """``certificate_pem`` is asked at every dial: the certificate is renewed now and then."""
        self._address = address
        self._server_ca = server_ca_pem
        self._key = key_pem
        self._certificate = certificate_pem
        self._timeout = timeout

    async def dial(self) -> "GrpcLink":
        """A link that is up; see ``Dialer``."""
        credentials = grpc.ssl_channel_credentials(self._server_ca, self._key, self._certificate())
        channel = open_channel(self._address, credentials)
        up = False
        try:
            with translated_for_link():
                session: Session = channel.stream_stream(SESSION_PATH)()
                async with asyncio.timeout(self._timeout):
                    await _admitted(session)
            up = True
        finally:
            if not up:
                await channel.close()
        return GrpcLink(channel, session)


class GrpcLink:
    """One live session; see ``Link``. When its stream ends, all of it has ended."""

    def __init__(self, channel: grpc.aio.Channel, session: Session) -> None:
        self._channel = channel
        self._session = session
        self._writing = asyncio.Lock()
        self._last_id = 0
        self._unacknowledged: dict[int, asyncio.Future[None]] = {}
        self._inbox = Inbox()
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, request: bytes) -> bytes:
        """The controller's answer."""
        self._inbox.check()
        ask: Unary = self._channel.unary_unary(METHODS[method].grpc_path)
        with translated_for_link():
            return await ask(request, timeout=CALL_SECONDS)

    async def fetch(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from ``offset`` on."""
        self._inbox.check()
        request = device_pb2.FetchRequest(sha256=sha256, offset=offset)
        stream: Stream = self._channel.unary_stream(FETCH_PATH)
        with translated_for_link():
            call = stream(request.SerializeToString())
        try:
            while True:
                with translated_for_link():
                    async with asyncio.timeout(STALL_SECONDS):
                        chunk = await call.read()
                if not isinstance(chunk, bytes):
                    return
                yield _parsed(device_pb2.Chunk(), chunk).data
        finally:
            call.cancel()

    async def publish(self, subject: str, payload: bytes) -> None:
        """Returns once the controller has it."""
        self._inbox.check()
        self._last_id += 1
        publication = device_pb2.Publication(id=self._last_id, subject=subject, payload=payload)
        frame = device_pb2.Upstream(publication=publication).SerializeToString()
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unacknowledged[publication.id] = acknowledged
        try:
            with translated_for_link():
                async with asyncio.timeout(CALL_SECONDS), self._writing:
                    await self._session.write(frame)
                async with asyncio.timeout(CALL_SECONDS):
                    await acknowledged
        finally:
            del self._unacknowledged[publication.id]
            acknowledged.cancel()

    def commands(self) -> AsyncIterator[bytes]:
        """Commands as they come; of each kind, the newest that was not yet taken."""
        return self._inbox.commands()

    async def close(self) -> None:
        """Ends the connection."""
        self._fail(TransportError("the link was closed"))
        self._session.cancel()
        self._reader.cancel()
        await asyncio.wait([self._reader])
        await self._channel.close()

    async def _read(self) -> None:
        reason: AgentError = TransportError("the link was closed")
        try:
            with translated_for_link():
                while isinstance(data := await self._session.read(), bytes):
                    self._take(_parsed(device_pb2.Downstream(), data))
            reason = TransportError("the controller ended the session")
        except AgentError as error:
            reason = error
        finally:
            self._fail(reason)

    def _take(self, frame: device_pb2.Downstream) -> None:
        match frame.WhichOneof("frame"):
            case "command":
                self._inbox.put(frame.command.SerializeToString())
            case "acknowledged":
                future = self._unacknowledged.get(frame.acknowledged)
                if future is not None and not future.done():
                    future.set_result(None)
            case "refused":
                future = self._unacknowledged.get(frame.refused.id)
                if future is not None and not future.done():
                    future.set_exception(refused(frame.refused.problem))
            case _:
                pass  # a newer controller's: what is not known is not for us

    def _fail(self, reason: AgentError) -> None:
        first = self._inbox.fail(reason)
        for future in self._unacknowledged.values():
            if not future.done():
                future.set_exception(TransportError(str(first)))


async def _admitted(session: Session) -> None:
    """Returns once the controller has said that it takes the device; else raises why not."""
    if ADMITTED_KEY in dict(await session.initial_metadata()):
        return
    # A refusal comes without that key, and a moment before its status: wait for the status.
    await session.read()
    raise TransportError("the controller ended the session at once")


@contextmanager
def translated_for_link() -> Iterator[None]:
    """As ``translated``; a controller with a wrong certificate is none that answers."""
    try:
        with translated():
            yield
    except WrongController as error:
        raise TransportError(f"this is not the controller: {error}") from error


AnyMessage = TypeVar("AnyMessage", bound=Message)


def _parsed(message: AnyMessage, data: bytes) -> AnyMessage:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise TransportError("the controller sent what can't be read") from error
    return message
