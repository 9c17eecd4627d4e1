"""Renewing over the link that the device has: while its certificate is good, it needs no other door."""

from typing import Protocol

from google.protobuf.message import DecodeError

from agent.errors import TransportError
from protos.methods import RENEW
from protos.v1 import enrolment_pb2


class Caller(Protocol):
    """A connection to the controller."""

    async def call(self, method: str, request: bytes) -> bytes:
        """The controller's answer; raises ``TransportError`` and ``Refused``."""
        ...


class LinkEnrolment:
    """See ``Enrolment``; of a device, which has joined already."""

    def __init__(self, connection: Caller) -> None:
        self._connection = connection

    async def join(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        """Raises ``TransportError``: who joins has no link yet."""
        del request
        raise TransportError("nobody joins over a link")

    async def renew(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        """A new certificate."""
        data = await self._connection.call(RENEW.name, request.SerializeToString())
        try:
            return enrolment_pb2.RenewReply.FromString(data)
        except DecodeError as error:
            raise TransportError("the controller sent what can't be read") from error
