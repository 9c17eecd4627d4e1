"""What every ``Courier`` promises, on every transport."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import Refused, TransportError
from agent.transport.link import Link
from controller.errors import DeviceOffline
from protos.methods import FACTS, METADATA, UPLOAD
from tests.contracts.centre import BLOB_SHA256, DEADLINE, Centre, directive, refresh
from tests.contracts.networks import NETWORKS, Network


@pytest.fixture
def centre() -> Centre:
    centre = Centre()
    centre.gate.set()
    return centre


@pytest.fixture(params=list(NETWORKS))
async def network(
    request: pytest.FixtureRequest, centre: Centre, tmp_path: Path
) -> AsyncIterator[Network]:
    async with NETWORKS[request.param](centre, tmp_path) as network:
        yield network


async def dial(network: Network, device: str) -> Link:
    return await (await network.dialer(device)).dial()


async def every_command(link: Link) -> None:
    async with asyncio.timeout(DEADLINE):
        async for _ in link.commands():
            pass


async def until_down(link: Link) -> None:
    with pytest.raises(TransportError):
        await every_command(link)


async def next_command(link: Link) -> bytes:
    async with asyncio.timeout(DEADLINE):
        return await anext(link.commands())


async def commands_until(link: Link, last: bytes) -> list[bytes]:
    received = []
    async with asyncio.timeout(DEADLINE):
        async for command in link.commands():
            received.append(command)
            if command == last:
                break
    return received


async def test_a_link_is_connected_before_dialling_returns(
    network: Network, centre: Centre
) -> None:
    link = await dial(network, "d1")

    assert network.courier.connected() == {"d1"}
    assert centre.presence == [("up", "d1")]
    await link.close()


async def test_a_device_without_a_link_is_offline(network: Network) -> None:
    with pytest.raises(DeviceOffline, match="d1"):
        await network.courier.send("d1", directive(1))


async def test_each_device_gets_its_own_commands(network: Network) -> None:
    one, two = await dial(network, "d1"), await dial(network, "d2")
    await network.courier.send("d2", directive(2))
    await network.courier.send("d1", directive(1))

    assert await next_command(one) == directive(1)
    assert await next_command(two) == directive(2)
    await one.close()
    await two.close()


@pytest.mark.parametrize("end", ["close", "cut"])
async def test_the_departure_is_told_once(network: Network, centre: Centre, end: str) -> None:
    link = await dial(network, "d1")
    if end == "cut":
        await network.cut("d1")
    await link.close()

    await centre.until(lambda: ("down", "d1") in centre.presence)
    assert centre.presence == [("up", "d1"), ("down", "d1")]
    assert network.courier.connected() == frozenset()


@pytest.mark.parametrize("work", ["call", "fetch", "publish"])
async def test_disconnecting_cuts_the_session_and_whatever_runs(
    network: Network, centre: Centre, work: str
) -> None:
    link = await dial(network, "d1")
    centre.gate.clear()

    async def run() -> None:
        if work == "call":
            await link.call(UPLOAD.name, b"x")
        elif work == "publish":
            await link.publish(FACTS, b"x")
        else:
            async for _ in link.fetch(BLOB_SHA256, 0):
                pass

    running = asyncio.create_task(run())
    async with asyncio.timeout(DEADLINE):
        await centre.entered[work].wait()
    await network.courier.disconnect("d1")

    assert network.courier.connected() == frozenset()
    with pytest.raises(TransportError):
        await asyncio.wait_for(running, DEADLINE)
    await until_down(link)
    await link.close()
    await centre.until(lambda: ("down", "d1") in centre.presence)


async def test_disconnecting_nobody_is_harmless(network: Network) -> None:
    await network.courier.disconnect("d1")


async def test_disconnecting_one_leaves_the_others(network: Network) -> None:
    one, two = await dial(network, "d1"), await dial(network, "d2")
    await network.courier.disconnect("d1")
    await until_down(one)

    assert await two.call(METADATA.name, b"x") == b"d2/x"
    await one.close()
    await two.close()


async def test_revocation_cuts_a_live_link_and_keeps_it_away(
    network: Network, centre: Centre
) -> None:
    dialer = await network.dialer("d1")
    link = await dialer.dial()
    centre.revoked.add("d1")
    await network.courier.disconnect("d1")

    await until_down(link)
    with pytest.raises((Refused, TransportError)):
        await link.call(METADATA.name, b"x")
    with pytest.raises(Refused) as caught:
        await dialer.dial()
    assert caught.value.code == "device-revoked"
    await link.close()


async def test_a_newer_link_replaces_the_older_one(network: Network, centre: Centre) -> None:
    dialer = await network.dialer("d1")
    older = await dialer.dial()
    newer = await dialer.dial()

    await until_down(older)
    await older.close()
    assert network.courier.connected() == {"d1"}
    await network.courier.send("d1", directive(7))
    assert await next_command(newer) == directive(7)
    assert ("down", "d1") not in centre.presence
    await newer.close()
    await centre.until(lambda: ("down", "d1") in centre.presence)
    assert centre.presence == [("up", "d1"), ("up", "d1"), ("down", "d1")]


async def test_a_device_that_was_cut_can_come_back(network: Network, centre: Centre) -> None:
    dialer = await network.dialer("d1")
    first = await dialer.dial()
    await network.cut("d1")
    await until_down(first)
    await first.close()
    await centre.until(lambda: ("down", "d1") in centre.presence)

    second = await dialer.dial()
    assert network.courier.connected() == {"d1"}
    assert await second.call(METADATA.name, b"x") == b"d1/x"
    await second.close()


async def test_what_nobody_took_never_comes_after_what_the_next_link_is_sent(
    network: Network, centre: Centre
) -> None:
    dialer = await network.dialer("d1")
    first = await dialer.dial()
    await network.courier.send("d1", directive(1))
    await network.courier.send("d1", refresh())
    await first.close()
    await centre.until(lambda: ("down", "d1") in centre.presence)

    second = await dialer.dial()
    await network.courier.send("d1", directive(2))
    # A broker may have kept what was sent to who had just gone; the newest comes last.
    assert set(await commands_until(second, directive(2))) <= {
        directive(1),
        directive(2),
        refresh(),
    }
    await network.courier.send("d1", directive(3))
    assert await commands_until(second, directive(3)) == [directive(3)]
    await second.close()
