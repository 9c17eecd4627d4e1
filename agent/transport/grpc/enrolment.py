"""Joining and renewing over gRPC: TLS that trusts the pinned CA alone, without a certificate yet."""

from typing import Final

import grpc
from google.protobuf.message import DecodeError

from agent.errors import TransportError
from agent.transport.grpc.channel import Unary, open_channel, translated
from agent.transport.link import Contact, Way
from protos.v1 import enrolment_pb2

JOIN_PATH: Final = "/muster.v1.Enrolment/Join"
RENEW_PATH: Final = "/muster.v1.Enrolment/Renew"


class EnrolmentClient:
    """See ``agent.transport.link.Enrolment``."""

    def __init__(self, address: str, server_ca_pem: bytes, timeout: float = 20.0) -> None:
        self._address = address
        self._server_ca = server_ca_pem
        self._timeout = timeout

    async def join(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        """An identity for a join token."""
        data = await self._ask(JOIN_PATH, request.SerializeToString())
        try:
            return enrolment_pb2.JoinReply.FromString(data)
        except DecodeError as error:
            raise TransportError("the controller sent what can't be read") from error

    async def renew(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        """A new certificate."""
        data = await self._ask(RENEW_PATH, request.SerializeToString())
        try:
            return enrolment_pb2.RenewReply.FromString(data)
        except DecodeError as error:
            raise TransportError("the controller sent what can't be read") from error

    async def _ask(self, path: str, request: bytes) -> bytes:
        channel = open_channel(self._address, grpc.ssl_channel_credentials(self._server_ca))
        ask: Unary = channel.unary_unary(path)
        try:
            with translated():
                return await ask(request, timeout=self._timeout)
        finally:
            await channel.close()


def over_grpc(contact: Contact) -> tuple[Way, ...]:
    """An ``EnrolmentDialer`` that knows no other way."""
    enrolment = EnrolmentClient(contact.address, contact.server_ca_pem)
    return (Way("grpc", contact.address, enrolment),)
