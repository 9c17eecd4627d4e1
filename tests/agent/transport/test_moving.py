"""One connection over several routes: it falls back, looks at better ones, and moves make before break."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from agent.errors import Refused, TransportError
from agent.transport.connection import Connection
from agent.transport.controller_client import publish_facts
from agent.transport.link import Link
from agent.transport.route import Patience, Route
from controller.errors import DeviceRevoked
from protos.methods import METADATA, UPLOAD
from protos.v1 import common_pb2
from simulations.memory_link import MemoryNetwork
from tests.agent.transport.crossing import (
    PATIENCE,
    CountingDialer,
    Crossing,
    Steps,
    link_of,
    running,
    turns,
    until,
)
from tests.contracts.centre import DEADLINE, Centre, directive, refresh

FACTS = common_pb2.DeviceFacts(arch="aarch64")


class Device:
    """A connection over several networks in memory, and what it has seen."""

    def __init__(self, networks: dict[str, MemoryNetwork], patience: Patience = PATIENCE) -> None:
        self.networks = networks
        self.dialers = {name: CountingDialer(one.dialer("d1")) for name, one in networks.items()}
        self.clock = Steps()
        self.commands: asyncio.Queue[bytes] = asyncio.Queue()
        self.take = asyncio.Event()
        self.take.set()
        self.greeted_via: list[str] = []
        self.greet = asyncio.Event()
        self.greet.set()
        self.greeting = asyncio.Event()
        self.bad_greetings = 0
        self.connection = Connection(
            [Route(name, dialer) for name, dialer in self.dialers.items()],
            self.clock,
            Random(3),  # noqa: S311 - no secret depends on it
            self._on_command,
            self._on_up,
            patience,
        )

    def isolate(self, *names: str) -> None:
        for name in names or self.networks:
            self.networks[name].isolate("d1")

    def restore(self, *names: str) -> None:
        for name in names or self.networks:
            self.networks[name].restore("d1")

    def dialled(self) -> list[int]:
        return [dialer.dialled for dialer in self.dialers.values()]

    async def up(self, via: str) -> Link:
        """The live link, which goes by that route."""
        await until(lambda: self.connection.via == via)
        return await link_of(self.connection)

    async def command(self) -> bytes:
        return await asyncio.wait_for(self.commands.get(), DEADLINE)

    async def _on_up(self, link: Link) -> None:
        self.greeted_via.append(self.connection.via)
        self.greeting.set()
        await self.greet.wait()
        if self.bad_greetings:
            self.bad_greetings -= 1
            raise TransportError("the greeting was lost")
        await publish_facts(link, FACTS)

    async def _on_command(self, command: bytes) -> None:
        self.commands.put_nowait(command)
        await self.take.wait()


@pytest.fixture
def centre() -> Centre:
    centre = Centre()
    centre.gate.set()
    return centre


def crossed(centre: Centre, names: Sequence[str] = ("grpc", "mqtt")) -> Device:
    """Over networks of one controller, which cuts a device's older link when a newer one comes up."""
    return Device(Crossing(centre.endpoint(), names).networks)


def apart(centre: Centre, patience: Patience = PATIENCE) -> Device:
    """Over networks that know nothing of each other: nobody but the device ends its older link."""
    names = ("grpc", "mqtt")
    return Device({name: MemoryNetwork(centre.endpoint()) for name in names}, patience)


@pytest.fixture(params=[crossed, apart])
def device(request: pytest.FixtureRequest, centre: Centre) -> Device:
    made: Device = request.param(centre)
    return made


async def test_the_preferred_route_is_taken_if_it_answers(device: Device) -> None:
    async with running(device.connection):
        await link_of(device.connection)

        assert device.connection.via == "grpc"
        assert device.dialled() == [1, 0]
        assert device.clock.asleep == []  # there is nothing better to look at
    assert device.connection.via == ""


async def test_the_next_route_is_tried_at_once(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.isolate("grpc")
    with caplog.at_level(logging.INFO):
        async with running(device.connection):
            link = await link_of(device.connection)

            assert device.connection.via == "mqtt"
            assert await link.call(METADATA.name, b"x") == b"d1/x"
            assert (device.dialled(), device.clock.time) == ([1, 1], 0.0)
    assert "connection.other-route because=the network is down" in caplog.text
    assert "connection.up via=mqtt" in caplog.text


async def test_there_is_a_wait_only_when_a_whole_round_has_failed(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.isolate()
    async with running(device.connection):
        waits = [await device.clock.slept() for _ in range(40)]
        await device.clock.falls_asleep()

        assert device.dialled() == [41, 41]
        assert all(wait <= min(60.0, 2.0**n) for n, wait in enumerate(waits))
        assert max(waits) > 45.0
        error = device.connection.last_error
        assert isinstance(error, TransportError)
        assert error.detail == "grpc: the network is down; mqtt: the network is down"
    assert "connection.down code=transport" in caplog.text


async def test_what_the_controller_refuses_is_not_asked_again_on_another_route(
    device: Device,
) -> None:
    device.networks["grpc"].refuse("d1", DeviceRevoked("device 'd1' was revoked"))
    async with running(device.connection):
        waits = [await device.clock.slept() for _ in range(20)]
        await device.clock.falls_asleep()

        assert device.dialled() == [21, 0]
        assert max(waits) > 900.0
        assert isinstance(device.connection.last_error, Refused)


async def test_a_refusal_on_the_last_route_counts_as_the_answer_of_the_round(
    device: Device,
) -> None:
    device.isolate("grpc")
    device.networks["mqtt"].refuse("d1", DeviceRevoked("device 'd1' was revoked"))
    async with running(device.connection):
        await device.clock.falls_asleep()

        error = device.connection.last_error
        assert isinstance(error, Refused)
        assert error.code == "device-revoked"


async def test_a_dial_that_never_ends_is_given_up(centre: Centre) -> None:
    device = apart(centre, replace(PATIENCE, gives_up=0.01))
    device.dialers["grpc"].gate.clear()
    async with running(device.connection):
        await link_of(device.connection)

        assert device.connection.via == "mqtt"


async def test_a_route_whose_greeting_is_lost_has_not_answered(device: Device) -> None:
    device.bad_greetings = 1
    async with running(device.connection):
        await link_of(device.connection)

        assert (device.connection.via, device.clock.time) == ("mqtt", 0.0)


async def test_it_goes_back_make_before_break(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.isolate("grpc")
    with caplog.at_level(logging.INFO):
        async with running(device.connection):
            older = await device.up("mqtt")
            device.restore("grpc")
            assert 150.0 <= await device.clock.slept() <= 450.0
            newer = await device.up("grpc")

            assert newer is not older
            assert await newer.call(METADATA.name, b"x") == b"d1/x"
            with pytest.raises(TransportError):
                await older.call(METADATA.name, b"x")
            await until(lambda: not device.networks["mqtt"].connected())
            await turns(20)  # whatever the end of the older one brings
            assert await link_of(device.connection) is newer
            assert (device.connection.via, device.connection.last_error) == ("grpc", None)
            assert device.clock.asleep == []
    assert "connection.moved from=mqtt to=grpc" in caplog.text
    assert "connection.down" not in caplog.text


async def test_the_older_link_carries_until_the_newer_one_has_been_greeted(centre: Centre) -> None:
    device = apart(centre)
    device.isolate("grpc")
    async with running(device.connection):
        older = await device.up("mqtt")
        device.restore("grpc")
        device.greet.clear()
        device.greeting.clear()
        await device.clock.slept()
        await asyncio.wait_for(device.greeting.wait(), DEADLINE)

        assert device.connection.via == "mqtt"
        assert await link_of(device.connection) is older
        assert await older.call(METADATA.name, b"x") == b"d1/x"
        await device.networks["mqtt"].send("d1", directive(1))
        assert await device.command() == directive(1)

        device.greet.set()
        await device.up("grpc")
        assert device.greeted_via == ["", "mqtt"]


async def test_a_link_that_is_slow_to_close_holds_nothing_up(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = apart(centre)
    device.isolate("grpc")
    async with running(device.connection):
        older = await device.up("mqtt")
        end, closing = older.close, asyncio.Event()

        async def slowly() -> None:
            closing.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(older, "close", slowly)
        device.restore("grpc")
        await device.clock.slept()
        newer = await device.up("grpc")
        await asyncio.wait_for(closing.wait(), DEADLINE)

        assert await newer.call(METADATA.name, b"x") == b"d1/x"
        device.networks["grpc"].cut("d1")
        assert await device.clock.slept() <= 1.0  # and the newer one is watched
        await end()


async def test_who_asks_while_the_controller_has_only_the_newer_link_gets_that_one(
    centre: Centre,
) -> None:
    device = crossed(centre)
    device.isolate("grpc")
    async with running(device.connection):
        await device.up("mqtt")
        device.restore("grpc")
        device.greet.clear()
        device.greeting.clear()
        await device.clock.slept()
        await asyncio.wait_for(device.greeting.wait(), DEADLINE)
        await until(lambda: not device.connection.via)  # the controller has cut the older one
        asking = asyncio.create_task(device.connection.call(METADATA.name, b"x", DEADLINE))
        await asyncio.sleep(0)
        device.greet.set()

        assert await asking == b"d1/x"
        assert device.connection.via == "grpc"
        # One dial of each route before, and the one that found it: nobody dialled for the cut link.
        assert (device.dialled(), device.clock.asleep) == ([2, 1], [])
    assert centre.presence.count(("down", "d1")) <= 1  # only at the end


async def test_looks_that_fail_disturb_nothing_and_become_rarer(
    device: Device, centre: Centre, caplog: pytest.LogCaptureFixture
) -> None:
    device.isolate("grpc")
    async with running(device.connection):
        link = await device.up("mqtt")
        centre.gate.clear()
        under_way = asyncio.create_task(link.call(UPLOAD.name, b"x"))
        await asyncio.wait_for(centre.entered["call"].wait(), DEADLINE)
        with caplog.at_level(logging.INFO):
            waits = [await device.clock.slept() for _ in range(8)]
            await device.clock.falls_asleep()

        middles = [min(3600.0, 300.0 * 2**n) for n in range(8)]
        assert all(0.5 <= wait / middle <= 1.5 for wait, middle in zip(waits, middles, strict=True))
        assert device.dialled() == [9, 1]
        assert await link_of(device.connection) is link
        assert not under_way.done()
        centre.gate.set()
        assert await asyncio.wait_for(under_way, DEADLINE) == b"d1x"
    assert caplog.text.count("connection.not-better via=grpc code=transport") == 8


async def test_a_look_whose_greeting_fails_disturbs_nothing(centre: Centre) -> None:
    device = apart(centre)
    device.isolate("grpc")
    async with running(device.connection):
        link = await device.up("mqtt")
        device.restore("grpc")
        device.bad_greetings = 1
        await device.clock.slept()
        await device.clock.falls_asleep()

        assert device.connection.via == "mqtt"
        assert await link.call(METADATA.name, b"x") == b"d1/x"
        assert device.networks["grpc"].connected() == frozenset()


async def test_a_look_that_is_refused_disturbs_nothing(device: Device) -> None:
    device.isolate("grpc")
    async with running(device.connection):
        link = await device.up("mqtt")
        device.restore("grpc")
        device.networks["grpc"].refuse("d1", DeviceRevoked("device 'd1' was revoked"))
        await device.clock.slept()
        await device.clock.falls_asleep()

        assert await link.call(METADATA.name, b"x") == b"d1/x"


async def test_a_link_that_is_cut_during_a_look_waits_for_what_the_look_finds(
    device: Device,
) -> None:
    device.isolate("grpc")
    async with running(device.connection):
        await device.up("mqtt")
        device.restore("grpc")
        device.dialers["grpc"].begun.clear()
        device.dialers["grpc"].gate.clear()
        await device.clock.slept()
        await asyncio.wait_for(device.dialers["grpc"].begun.wait(), DEADLINE)
        device.networks["mqtt"].cut("d1")
        await until(lambda: not device.connection.via)
        device.dialers["grpc"].gate.set()
        await device.up("grpc")

        assert device.dialled() == [2, 1]


async def test_a_link_that_is_cut_during_a_look_that_fails_is_dialled_again_first(
    device: Device,
) -> None:
    device.isolate("grpc")
    async with running(device.connection):
        await device.up("mqtt")
        device.clock.time += 100.0
        device.dialers["grpc"].begun.clear()
        device.dialers["grpc"].gate.clear()
        await device.clock.slept()
        await asyncio.wait_for(device.dialers["grpc"].begun.wait(), DEADLINE)
        device.networks["mqtt"].cut("d1")
        device.dialers["grpc"].gate.set()
        await until(lambda: any(wait <= 1.0 for wait, _ in device.clock.asleep))
        await device.clock.slept()
        await device.up("mqtt")

        assert device.dialled() == [2, 2]  # the one that has just failed was not dialled again


async def test_a_route_that_cuts_its_links_soon_is_left_for_the_next_one(device: Device) -> None:
    async with running(device.connection):
        await device.up("grpc")
        device.clock.time += 59.0
        device.networks["grpc"].cut("d1")
        await device.clock.slept()
        await device.up("mqtt")
        looks = []
        for _ in range(4):  # each look finds it, and each time it does not last
            looks.append(await device.clock.slept())
            await device.up("grpc")
            device.clock.time += 59.0
            device.networks["grpc"].cut("d1")
            await device.clock.slept()
            await device.up("mqtt")

        assert all(
            0.5 <= look / middle <= 1.5
            for look, middle in zip(looks, (300.0, 600.0, 1200.0, 2400.0), strict=True)
        )


async def test_a_preferred_link_that_has_lasted_is_dialled_first_again(device: Device) -> None:
    async with running(device.connection):
        await device.up("grpc")
        device.clock.time += 60.0
        device.networks["grpc"].cut("d1")
        await device.clock.slept()
        await device.up("grpc")

        assert device.dialled() == [2, 0]


async def test_of_three_routes_the_best_that_answers_is_found_step_by_step(centre: Centre) -> None:
    device = crossed(centre, ("first", "second", "third"))
    device.isolate("first", "second")
    async with running(device.connection):
        await device.up("third")
        device.restore("second")
        await device.clock.slept()
        await device.up("second")
        assert device.dialled() == [2, 2, 1]

        device.restore("first")
        await device.clock.slept()
        await device.up("first")
        assert device.dialled() == [3, 2, 1]


async def test_a_look_ends_where_the_controller_refuses(centre: Centre) -> None:
    device = crossed(centre, ("first", "second", "third"))
    device.isolate("first", "second")
    async with running(device.connection):
        await device.up("third")
        device.restore("second")
        device.restore("first")
        device.networks["first"].refuse("d1", DeviceRevoked("device 'd1' was revoked"))
        await device.clock.slept()
        await device.clock.falls_asleep()

        assert device.connection.via == "third"
        assert device.dialled() == [2, 1, 1]


async def test_a_link_that_lasted_before_it_was_left_starts_the_waits_afresh(
    device: Device,
) -> None:
    device.isolate()
    async with running(device.connection):
        for _ in range(12):
            await device.clock.slept()
        await device.clock.falls_asleep()
        device.restore("mqtt")
        await device.clock.slept()
        await device.up("mqtt")
        device.clock.time += 60.0
        device.restore("grpc")
        await device.clock.slept()
        await device.up("grpc")
        device.networks["grpc"].cut("d1")

        assert await device.clock.slept() <= 1.0


async def test_commands_that_came_before_the_move_are_taken_all_the_same(device: Device) -> None:
    device.isolate("grpc")
    async with running(device.connection):
        await device.up("mqtt")
        device.take.clear()
        await device.networks["mqtt"].send("d1", directive(1))
        assert await device.command() == directive(1)  # and the device is busy with it
        await device.networks["mqtt"].send("d1", directive(2))
        await device.networks["mqtt"].send("d1", refresh())

        device.restore("grpc")
        await device.clock.slept()
        await device.up("grpc")
        await device.networks["grpc"].send("d1", directive(3))
        assert await device.command() == directive(3)  # it does not wait for the older ones
        device.take.set()

        assert {await device.command(), await device.command()} == {directive(2), refresh()}


async def test_commands_that_come_while_a_link_is_greeted_are_taken_after(device: Device) -> None:
    device.isolate("grpc")
    async with running(device.connection):
        await device.up("mqtt")
        device.restore("grpc")
        device.greet.clear()
        device.greeting.clear()
        await device.clock.slept()
        await asyncio.wait_for(device.greeting.wait(), DEADLINE)
        await device.networks["grpc"].send("d1", directive(7))
        assert device.commands.empty()
        device.greet.set()

        assert await device.command() == directive(7)


async def test_a_defect_in_a_dialer_is_logged_and_the_next_route_is_tried(
    centre: Centre, caplog: pytest.LogCaptureFixture
) -> None:
    class Defective:
        async def dial(self) -> Link:
            raise ZeroDivisionError

    device = apart(centre)
    connection = Connection(
        [Route("grpc", Defective()), Route("mqtt", device.dialers["mqtt"])],
        device.clock,
        Random(3),  # noqa: S311 - no secret depends on it
        device._on_command,
        device._on_up,
        PATIENCE,
    )
    async with running(connection):
        await link_of(connection)

        assert connection.via == "mqtt"
    assert "connection.broke" in caplog.text


@pytest.mark.parametrize("at", ["dial", "greeting"])
async def test_ending_in_the_middle_of_a_look_leaves_no_link(
    device: Device, centre: Centre, at: str
) -> None:
    device.isolate("grpc")
    async with running(device.connection):
        await device.up("mqtt")
        device.restore("grpc")
        device.dialers["grpc"].begun.clear()
        device.greeting.clear()
        held = device.dialers["grpc"].gate if at == "dial" else device.greet
        held.clear()
        await device.clock.slept()
        begun = device.dialers["grpc"].begun if at == "dial" else device.greeting
        await asyncio.wait_for(begun.wait(), DEADLINE)

    await centre.until(lambda: ("down", "d1") in centre.presence)
    assert [network.connected() for network in device.networks.values()] == [frozenset()] * 2
    assert not device.connection.is_up
