"""One device's session stream, from the controller's side."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from controller.errors import ControllerError, InvalidInput, TooOften
from controller.transport.courier import Endpoint
from controller.transport.dispatch import problem
from protos.mailbox import Waiting, queued
from protos.methods import ADMITTED_KEY
from protos.v1 import command_pb2, device_pb2

# Quoted: at run time, gRPC's classes take no parameters.
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

log = logging.getLogger(__name__)


class GrpcSession:
    """What goes either way on one stream. An idle session costs one task and no queue."""

    __slots__ = (
        "_context",
        "_cut",
        "_is_open",
        "_pump",
        "_waiting",
        "_writing",
        "certificate",
        "device",
    )

    via: Final = "grpc"

    def __init__(
        self, device: str, certificate: str, context: Context, cut: Callable[[], None]
    ) -> None:
        """``cut`` ends the stream's call."""
        self.device = device
        self.certificate = certificate
        self._cut = cut
        self._context = context
        self._is_open = False
        self._waiting: Waiting = ()
        self._pump: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Tells the device that it is admitted; then sends what has been queued meanwhile."""
        sending = asyncio.ensure_future(self._context.send_initial_metadata(((ADMITTED_KEY, "1"),)))
        try:
            await asyncio.shield(sending)
        finally:
            await asyncio.wait([sending])  # gRPC could not end a call in the middle of this
        self._is_open = True
        self._start_pump()

    def send(self, command: bytes) -> None:
        """Queues a command; a newer one of a kind replaces one that still waits."""
        self._waiting = queued(self._waiting, command)
        self._start_pump()

    def end(self) -> None:
        """Cuts the stream."""
        self._cut()

    async def listen(self, endpoint: Endpoint) -> None:
        """Takes and acknowledges publications until the device ends the stream.

        Raises:
            InvalidInput: the device sent what can't be read.
            ControllerError: the controller could not take a publication.
        """
        while isinstance(data := await self._context.read(), bytes):
            try:
                frame = device_pb2.Upstream.FromString(data)
            except DecodeError as error:
                raise InvalidInput("session: a frame that can't be read") from error
            if frame.WhichOneof("frame") == "publication":
                await self._write(await self._taken(endpoint, frame.publication))

    def close(self) -> None:
        """Sends nothing more."""
        self._is_open = False
        self._waiting = ()
        if self._pump is not None:
            self._pump.cancel()

    async def _taken(
        self, endpoint: Endpoint, publication: device_pb2.Publication
    ) -> device_pb2.Downstream:
        try:
            await endpoint.publish(self.device, publication.subject, publication.payload)
        except ControllerError as error:
            told = problem(error)
            if told is None:
                raise
            level = logging.DEBUG if isinstance(error, TooOften) else logging.INFO
            log.log(level, "publication.refused device=%s code=%s", self.device, error.code)
            refusal = device_pb2.Refusal(id=publication.id, problem=told)
            return device_pb2.Downstream(refused=refusal)
        return device_pb2.Downstream(acknowledged=publication.id)

    def _start_pump(self) -> None:
        if self._is_open and self._waiting and self._pump is None:
            self._pump = asyncio.create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                command, *rest = self._waiting
                self._waiting = tuple(rest)
                message = command_pb2.Command.FromString(command)
                await self._write(device_pb2.Downstream(command=message))
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            # The stream has ended: whoever reads it notices, and the device asks again.
            log.debug("session.write-failed device=%s: %s", self.device, error)
        finally:
            self._pump = None

    async def _write(self, frame: device_pb2.Downstream) -> None:
        async with self._writing:
            await self._context.write(frame.SerializeToString())
