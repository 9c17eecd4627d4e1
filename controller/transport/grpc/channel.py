"""What both gRPC servers share: settings, and our errors as theirs."""

from collections.abc import Sequence
from typing import Final, Never

import grpc

from controller.errors import ConfigError, ControllerError
from controller.transport.dispatch import problem
from protos.limits import MESSAGE_BYTES
from protos.methods import PROBLEM_KEY

_CODES: Final = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


HANDSHAKE_SECONDS: Final = 10


def options(request_bytes: int, streams: int) -> Sequence[tuple[str, int]]:
    """A server's settings, for requests of at most so many bytes, so many at once a connection."""
    return (
        ("grpc.max_receive_message_length", request_bytes),
        ("grpc.max_concurrent_streams", streams),
        # Who connects and shows nothing holds a file descriptor: not for long.
        ("grpc.server_handshake_timeout_ms", 1000 * HANDSHAKE_SECONDS),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        # A device that is gone is noticed within 80 s; its own pings every 30 s are welcome.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.so_reuseport", 0),  # a second controller on the port is a mistake: say so
    )


async def refuse(
    context: "grpc.aio.ServicerContext[bytes, bytes]", error: ControllerError
) -> Never:
    """Ends the call with the error."""
    told = problem(error)
    if told is None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, f"the controller failed: {error.code}")
    code = _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
    await context.abort(code, told.detail, ((PROBLEM_KEY, told.SerializeToString()),))


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials) -> int:
    """The port that the server will serve on.

    Raises:
        ConfigError: the address is taken, or is none of this machine's.
    """
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigError(f"{address}: it can't be served on: is it in use?") from error
    if port == 0:
        raise ConfigError(f"{address}: it can't be served on: is it in use?")
    return port
