"""What every gRPC channel of the agent shares: its settings, and its errors as ours."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from agent.errors import AgentError, Refused, TransportError, WrongController
from protos.limits import MESSAGE_BYTES
from protos.methods import PROBLEM_KEY
from protos.v1 import common_pb2

# Quoted: at run time, gRPC's classes take no parameters.
Unary: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # A dead path (a NAT that forgot us, a cable) is noticed within 40 s, also when nothing is said.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # One connection of its own a channel: what is closed is closed, whoever else dials.
    ("grpc.use_local_subchannel_pool", 1),
    # Retrying is for loops: only they know whether it still matters.
    ("grpc.enable_retries", 0),
)


def open_channel(address: str, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    """A channel that has not connected yet."""
    return grpc.aio.secure_channel(address, credentials, options=OPTIONS)


@contextmanager
def translated() -> Iterator[None]:
    """Turns whatever gRPC raises in the block into ``TransportError``, ``Refused`` or
    ``WrongController``.
    """  # noqa: D205 - three names do not fit one line
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise failure(error) from error
    except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
        raise TransportError("the connection is closed") from error
    except TimeoutError as error:
        raise TransportError("the controller did not answer in time") from error
    except asyncio.CancelledError:
        # gRPC also raises this where the call was cancelled by a close, and not the task.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise TransportError("the connection was closed") from None


def failure(error: grpc.aio.AioRpcError) -> AgentError:
    """What a failed call means to the agent."""
    for key, value in error.trailing_metadata() or ():
        if key == PROBLEM_KEY and isinstance(value, bytes):
            try:
                problem = common_pb2.Problem.FromString(value)
            except DecodeError:
                break
            return refused(problem)
    details = error.details() or ""
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return WrongController("its certificate was not issued by the CA that is pinned")
    if "Hostname Verification Check failed" in details or "not in peer certificate" in details:
        return WrongController("its certificate is for another address")
    return TransportError(f"{error.code().name}: {details[:500]}")


def refused(problem: common_pb2.Problem) -> Refused:
    """The controller's no, as it said it."""
    return Refused(problem.code, problem.detail, problem.remedy, problem.retry_after_ms)
