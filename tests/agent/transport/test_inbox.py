"""What a link brings until it fails."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent.errors import AgentError, Refused, TransportError
from agent.transport.inbox import Inbox
from protos.v1 import command_pb2, common_pb2


def directive(generation: int) -> bytes:
    envelope = common_pb2.Envelope(payload=str(generation).encode())
    return command_pb2.Command(directive=envelope).SerializeToString()


async def taken(commands: AsyncIterator[bytes]) -> tuple[list[bytes], AgentError]:
    found: list[bytes] = []
    while True:
        try:
            found.append(await anext(commands))
        except AgentError as error:
            return found, error


async def test_what_came_before_the_failure_is_given_out() -> None:
    inbox = Inbox()
    inbox.put(directive(1))
    inbox.put(directive(2))
    inbox.fail(TransportError("cut"))
    found, error = await taken(inbox.commands())
    assert found == [directive(2)]
    assert str(error) == "cut"


async def test_who_waits_is_given_what_comes_and_told_of_the_end() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(taken(inbox.commands()))
    await asyncio.sleep(0)
    inbox.put(directive(1))
    await asyncio.sleep(0)
    inbox.fail(TransportError("cut"))
    found, error = await waiting
    assert found == [directive(1)]
    assert str(error) == "cut"


def test_the_first_reason_stays() -> None:
    inbox = Inbox()
    inbox.check()
    assert inbox.failure is None
    first = Refused("device-revoked", "you were revoked", "")
    assert inbox.fail(first) is first
    assert inbox.fail(TransportError("the link was closed")) is first
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            inbox.check()
        assert caught.value is first
