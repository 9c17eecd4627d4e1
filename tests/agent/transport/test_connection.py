import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from agent.errors import Refused, TransportError
from agent.transport.connection import Connection
from agent.transport.controller_client import publish_facts
from agent.transport.link import Link
from agent.transport.route import Route
from controller.errors import DeviceRevoked
from protos.methods import METADATA
from protos.v1 import common_pb2
from simulations.memory_link import MemoryNetwork
from tests.agent.transport.crossing import PATIENCE, Steps, link_of, running
from tests.contracts.centre import DEADLINE, Centre, directive


class Device:
    """A connection over a network in memory, and what it has seen."""

    def __init__(self, centre: Centre) -> None:
        self.network = MemoryNetwork(centre.endpoint())
        self.clock = Steps()
        self.commands: asyncio.Queue[bytes] = asyncio.Queue()
        self.connection = self.connect(self._greet)

    def connect(self, on_up: Callable[[Link], Awaitable[None]]) -> Connection:
        return Connection(
            [Route("memory", self.network.dialer("d1"))],
            self.clock,
            Random(3),  # noqa: S311 - no secret depends on it
            self._on_command,
            on_up,
            PATIENCE,
        )

    async def command(self) -> bytes:
        return await asyncio.wait_for(self.commands.get(), DEADLINE)

    async def _greet(self, link: Link) -> None:
        await publish_facts(link, common_pb2.DeviceFacts(arch="aarch64"))

    async def _on_command(self, command: bytes) -> None:
        self.commands.put_nowait(command)
        if command == directive(13):
            raise ZeroDivisionError


@pytest.fixture
def centre() -> Centre:
    centre = Centre()
    centre.gate.set()
    return centre


@pytest.fixture
def device(centre: Centre) -> Device:
    return Device(centre)


async def test_facts_are_published_before_the_link_is_handed_out(
    device: Device, centre: Centre
) -> None:
    async with running(device.connection):
        link = await link_of(device.connection)

        facts = common_pb2.DeviceFacts(arch="aarch64").SerializeToString()
        assert centre.heard == [("d1", "facts", facts)]
        assert await link.call(METADATA.name, b"x") == b"d1/x"
        assert device.connection.is_up


async def test_commands_reach_the_callback_and_one_that_fails_stops_nothing(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(device.connection):
        await link_of(device.connection)
        for generation in (1, 13, 14):
            await device.network.send("d1", directive(generation))
            assert await device.command() == directive(generation)

        assert device.connection.is_up
    assert "connection.command-failed" in caplog.text


async def test_a_cut_link_is_dialled_again_and_facts_published_again(
    device: Device, centre: Centre
) -> None:
    async with running(device.connection):
        first = await link_of(device.connection)
        device.network.cut("d1")
        assert 0.0 <= await device.clock.slept() <= 1.0
        second = await link_of(device.connection)

        assert second is not first
        assert len(centre.heard) == 2


async def test_waits_grow_while_nobody_answers_and_stay_under_their_ceilings(
    device: Device,
) -> None:
    device.network.isolate("d1")
    async with running(device.connection):
        waits = [await device.clock.slept() for _ in range(40)]

        assert all(wait <= min(60.0, 2.0**n) for n, wait in enumerate(waits))
        assert max(waits) > 45.0
        assert not device.connection.is_up
        assert isinstance(device.connection.last_error, TransportError)


async def test_each_cause_of_an_outage_is_told_once(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(device.connection):
        await link_of(device.connection)
        with caplog.at_level(logging.WARNING):
            device.network.cut("d1")
            device.network.isolate("d1")
            for _ in range(4):
                await device.clock.slept()
            await device.clock.falls_asleep()

    said = [one.split(": ")[1] for one in caplog.messages if one.startswith("connection.down")]
    assert len(said) == 2
    assert said[0].startswith("the network was cut. ")
    assert said[1].startswith("the network is down. ")


@pytest.mark.parametrize(("lived", "ceiling"), [(59.0, None), (60.0, 1.0)])
async def test_only_a_link_that_lived_long_enough_starts_the_waits_afresh(
    device: Device, lived: float, ceiling: float | None
) -> None:
    device.network.isolate("d1")
    waits = []
    async with running(device.connection):
        for _ in range(8):
            await device.clock.slept()
        device.network.restore("d1")
        for _ in range(5):
            await link_of(device.connection)
            device.clock.time += lived
            device.network.cut("d1")
            waits.append(await device.clock.slept())

    if ceiling is None:
        assert max(waits) > 10.0
    else:
        assert max(waits) <= ceiling


async def test_a_revoked_device_waits_long_and_says_what_to_do(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.network.refuse("d1", DeviceRevoked("device 'd1' was revoked"))
    async with running(device.connection):
        with caplog.at_level(logging.ERROR):
            waits = [await device.clock.slept() for _ in range(20)]

        assert max(waits) > 900.0
        assert sum(waits) / len(waits) > 600.0
        error = device.connection.last_error
        assert isinstance(error, Refused)
        assert error.code == "device-revoked"
    assert "enrol it anew with a join token" in caplog.text


async def test_a_greeting_that_fails_drops_the_link_and_tries_again(
    device: Device, centre: Centre
) -> None:
    attempts = 0

    async def greet(link: Link) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await link.publish("facts", b"bad")

    connection = device.connect(greet)
    async with running(connection):
        await device.clock.slept()
        await link_of(connection)

        assert attempts == 2
        assert connection.last_error is None


async def test_a_defect_in_the_greeting_is_logged_and_survived(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    async def greet(_: Link) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ZeroDivisionError

    connection = device.connect(greet)
    async with running(connection):
        await device.clock.slept()
        await link_of(connection)

    assert "connection.broke" in caplog.text


async def test_a_call_waits_for_the_link(device: Device) -> None:
    asking = asyncio.create_task(device.connection.call(METADATA.name, b"x", DEADLINE))
    async with running(device.connection):
        assert await asking == b"d1/x"


async def test_a_call_without_a_link_ends_in_time(device: Device) -> None:
    device.network.isolate("d1")
    async with running(device.connection):
        with pytest.raises(TransportError, match=r"no answer within 0\.01 s"):
            await device.connection.call(METADATA.name, b"x", 0.01)


async def test_a_thread_can_call_and_is_told_of_a_refusal(device: Device) -> None:
    async with running(device.connection):
        ask = device.connection.call_blocking
        async with asyncio.timeout(DEADLINE):
            await link_of(device.connection)
            assert await asyncio.to_thread(ask, METADATA.name, b"x") == b"d1/x"
            with pytest.raises(Refused, match="conflict"):
                await asyncio.to_thread(ask, METADATA.name, b"conflict")


async def test_a_thread_that_calls_too_early_is_told(device: Device) -> None:
    with pytest.raises(TransportError, match="not been started"):
        await asyncio.to_thread(device.connection.call_blocking, METADATA.name, b"x")


async def test_ending_the_connection_tells_the_controller(device: Device, centre: Centre) -> None:
    async with running(device.connection):
        await link_of(device.connection)

    await centre.until(lambda: ("down", "d1") in centre.presence)
    assert not device.connection.is_up
