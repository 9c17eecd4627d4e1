"""Joining and renewing over gRPC, on a TLS port of its own: callers have no certificate yet."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from controller.enrolment.authority import KeyPair
from controller.errors import ControllerError, InvalidInput, TooManyAttempts
from controller.transport.courier import Join, Renew
from controller.transport.grpc.channel import bind, options, refuse
from controller.transport.token_bucket import Bucket, Rate, full, level, take
from protos.limits import KIB
from protos.v1 import enrolment_pb2

AnyMessage = TypeVar("AnyMessage", bound=Message)

REQUEST_BYTES: Final = 64 * KIB
FAILURES: Final = Rate(burst=10, per_second=0.2)
"""Failed attempts to join, per address. Secrets can't be guessed; this keeps the log readable."""
MAX_PEERS: Final = 10_000
STREAMS: Final = 4
IDLE_SECONDS: Final = 30
CONNECTIONS: Final = 256
"""At once. Anybody can connect here; what strangers hold open, devices must not go without."""

log = logging.getLogger(__name__)


class EnrolmentServer:
    """Serves ``muster.v1.Enrolment``."""

    def __init__(
        self,
        join: Join,
        renew: Renew,
        server: KeyPair,
        failures: Rate = FAILURES,
        monotonic: Callable[[], float] = time.monotonic,
        connections: int = CONNECTIONS,
    ) -> None:
        """``join`` and ``renew`` raise ``ControllerError`` to refuse."""
        self._join = join
        self._renew = renew
        self._credentials = grpc.ssl_server_credentials([(server.key_pem, server.certificate_pem)])
        self._failures = failures
        self._monotonic = monotonic
        self._connections = connections
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str) -> int:
        """Begins to serve on host:port; returns the port (which is chosen if it was 0).

        Raises:
            ConfigError: the address is taken, or is none of this machine's.
        """
        strangers = (
            ("grpc.max_allowed_incoming_connections", self._connections),
            ("grpc.max_connection_idle_ms", 1000 * IDLE_SECONDS),
        )
        server = grpc.aio.server(options=(*options(REQUEST_BYTES, STREAMS), *strangers))
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Join": grpc.unary_unary_rpc_method_handler(self._answer_join),
            "Renew": grpc.unary_unary_rpc_method_handler(self._answer_renew),
        }
        handlers = grpc.method_handlers_generic_handler("muster.v1.Enrolment", methods)
        server.add_generic_rpc_handlers((handlers,))
        port = bind(server, address, self._credentials)
        await server.start()
        self._server = server
        return port

    async def stop(self, grace: float = 1.0) -> None:
        """Ends within ``grace`` seconds. May be called twice."""
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None

    async def _answer_join(
        self, data: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> bytes:
        peer = _host(context.peer())
        try:
            self._check_rate(peer)
            request = _parsed(enrolment_pb2.JoinRequest(), data)
            return (await self._join(request)).SerializeToString()
        except ControllerError as error:
            if error.status < 500:
                self._count_failure(peer)
            log.warning("enrolment.refused peer=%s code=%s: %s", peer, error.code, error.detail)
            await refuse(context, error)

    async def _answer_renew(
        self, data: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> bytes:
        try:
            request = _parsed(enrolment_pb2.RenewRequest(), data)
            return (await self._renew(request)).SerializeToString()
        except ControllerError as error:
            peer = _host(context.peer())
            log.warning("renewal.refused peer=%s code=%s: %s", peer, error.code, error.detail)
            await refuse(context, error)

    def _check_rate(self, peer: str) -> None:
        bucket = self._buckets.get(peer)
        if bucket is not None and level(bucket, self._failures, self._monotonic()) < 1.0:
            raise TooManyAttempts(f"too many failed attempts to join from {peer}")

    def _count_failure(self, peer: str) -> None:
        now = self._monotonic()
        bucket = self._buckets.pop(peer, None) or full(self._failures, now)
        self._buckets[peer] = take(bucket, self._failures, now)
        while len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)


def _host(peer: str) -> str:
    """The address of "ipv4:127.0.0.1:1234" or "ipv6:%5B::1%5D:1234" without the port."""
    return peer.rpartition(":")[0]


def _parsed(message: AnyMessage, data: bytes) -> AnyMessage:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidInput("request: it can't be read") from error
    return message
