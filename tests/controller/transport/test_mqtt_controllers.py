"""Several controllers at one broker, and a broker that forgets: real Mosquitto, real links."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.errors import TransportError
from agent.transport.link import Link
from controller.transport.mqtt.loop import MqttBridge, Posts
from controller.transport.mqtt.voice import ControllerSeal
from controller.transport.sessions import Sessions
from protos.methods import FACTS, METADATA
from tests.brokers import Broker, mosquitto
from tests.contracts.centre import DEADLINE, Centre, directive, refresh
from tests.contracts.networks import Authorities, Cable, OverMqtt, bridge_to, nothing_stands


@dataclass
class Controller:
    """One controller, with a line to the broker that can be cut."""

    bridge: MqttBridge
    sessions: Sessions
    cable: Cable
    centre: Centre
    asked: Counter[str] = field(default_factory=Counter)
    serving: "asyncio.Task[None] | None" = None

    async def die(self) -> None:
        """Goes without a word, as with ``kill -9``: its line is dead, then it is."""
        self.cable.plugged = False
        self.cable.cut()
        await self.end()

    async def end(self) -> None:
        if self.serving is not None:
            self.serving.cancel()
            await asyncio.wait([self.serving])
            await self.sessions.settle()


@dataclass
class Site:
    """A broker, controllers with one identity, and devices."""

    broker: Broker
    authorities: Authorities
    own: ControllerSeal
    controllers: list[Controller] = field(default_factory=list)

    async def controller(self, standing: Callable[[], Posts] = nothing_stands) -> Controller:
        centre, asked = Centre(), Counter[str]()
        centre.gate.set()

        async def metadata(device: str, request: bytes) -> bytes:
            asked[device] += 1
            return request

        endpoint = replace(centre.endpoint(), actions={METADATA.name: metadata})
        sessions = Sessions(endpoint)
        cable = Cable(self.broker.ports.controllers)
        address = f"localhost:{await cable.lay()}"
        bridge = bridge_to(
            self.broker, endpoint, sessions, self.own, address=address, standing=standing
        )
        made = Controller(bridge, sessions, cable, centre, asked)
        made.serving = asyncio.create_task(bridge.run())
        self.controllers.append(made)
        async with asyncio.timeout(DEADLINE):
            await bridge.up()
        return made

    def devices(self) -> OverMqtt:
        ca_pem = self.authorities.server.certificate_pem
        return OverMqtt(Sessions(Centre().endpoint()), self.broker, ca_pem)


@asynccontextmanager
async def a_site(tmp_path: Path) -> AsyncIterator[Site]:
    authorities = Authorities.new()
    own = ControllerSeal(authorities.controller, X25519PrivateKey.generate())
    async with mosquitto(tmp_path) as broker:
        made = Site(broker, authorities, own)
        try:
            yield made
        finally:
            for controller in made.controllers:
                await controller.end()
                await controller.cable.remove()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as made:
        yield made


@pytest.fixture
async def devices(site: Site) -> AsyncIterator[OverMqtt]:
    network = site.devices()
    yield network
    for cable in network.cables.values():
        await cable.remove()


async def down(link: Link) -> None:
    """Returns once the link has ended."""

    async def listen() -> None:
        async for _ in link.commands():
            pass

    with pytest.raises(TransportError):
        await asyncio.wait_for(listen(), DEADLINE)


async def test_two_controllers_share_what_one_device_asks_and_each_question_is_answered_once(
    site: Site, devices: OverMqtt
) -> None:
    one, two = await site.controller(), await site.controller()
    link = await (await devices.dialer("d1")).dial()

    asked = [str(number).encode() for number in range(40)]
    assert await asyncio.gather(*(link.call(METADATA.name, one) for one in asked)) == asked

    assert one.asked["d1"] + two.asked["d1"] == 40
    assert min(one.asked["d1"], two.asked["d1"]) > 0
    await link.close()


async def test_what_a_device_publishes_goes_to_the_controller_that_has_its_link(
    site: Site, devices: OverMqtt
) -> None:
    one, two = await site.controller(), await site.controller()
    link = await (await devices.dialer("d1")).dial()
    for number in range(6):
        await link.publish(FACTS, str(number).encode())

    mine, other = (one, two) if one.sessions.connected() else (two, one)
    assert [payload for _, _, payload in mine.centre.heard] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert other.centre.heard == []
    await link.close()


@pytest.mark.parametrize("how", ["goodbye", "death"])
async def test_the_devices_of_a_controller_that_goes_come_to_the_other(
    site: Site, devices: OverMqtt, how: str
) -> None:
    one = await site.controller()
    dialer = await devices.dialer("d1")
    link = await dialer.dial()
    two = await site.controller()

    await (one.die() if how == "death" else one.end())
    await down(link)
    await link.close()
    again = await dialer.dial()

    assert two.sessions.connected() == {"d1"}
    assert await again.call(METADATA.name, b"x") == b"x"
    await again.close()


async def test_devices_spread_over_the_controllers_at_the_broker(
    site: Site, devices: OverMqtt
) -> None:
    one, two = await site.controller(), await site.controller()
    links = [await (await devices.dialer(f"d{number}", seed=number)).dial() for number in range(8)]

    assert one.sessions.connected()
    assert two.sessions.connected()
    for link in links:
        await link.close()


async def test_a_device_that_moved_to_another_controller_without_a_word_is_gone_where_it_was(
    site: Site, devices: OverMqtt
) -> None:
    former = await site.controller()
    dialer = await devices.dialer("cam-1")
    links = [await dialer.dial()]
    latter = await site.controller()
    while not latter.centre.presence:
        links.append(await dialer.dial())  # the broker gives it the older one's place: no will
    former.asked.clear()
    assert former.sessions.has("cam-1")

    while not former.asked["cam-1"]:
        await links[-1].call(METADATA.name, b"x")

    assert not former.sessions.has("cam-1")
    assert latter.sessions.has("cam-1")
    for link in links:
        await link.close()


async def test_a_controller_that_lost_the_broker_is_there_again_as_another(
    site: Site, devices: OverMqtt
) -> None:
    one = await site.controller()
    dialer = await devices.dialer("d1")
    link = await dialer.dial()
    one.cable.cut()
    await down(link)
    await link.close()
    async with asyncio.timeout(DEADLINE):
        again = await dialer.dial()

    assert one.sessions.connected() == {"d1"}
    await again.close()


async def standing_directive() -> AsyncIterator[list[tuple[str, bytes]]]:
    yield [("d1", directive(7))]


async def test_each_time_that_the_broker_is_lost_a_line_in_the_log_says_it(
    site: Site, devices: OverMqtt, caplog: pytest.LogCaptureFixture
) -> None:
    one = await site.controller()
    dialer = await devices.dialer("d1")
    for _ in range(2):
        link = await dialer.dial()
        one.cable.cut()
        await down(link)
        await link.close()
    await (await dialer.dial()).close()

    lost = [line for line in caplog.records if line.getMessage().startswith("bridge.down")]
    assert [line.levelname for line in lost] == ["WARNING", "WARNING"]


async def test_a_broker_that_has_forgotten_everything_is_told_the_directives_again(
    site: Site, devices: OverMqtt
) -> None:
    await site.controller(standing_directive)
    await site.broker.kill()
    for kept in site.broker.folder.glob("*.db"):
        kept.unlink()
    await site.broker.start()
    dialer = await devices.dialer("d1")
    async with asyncio.timeout(DEADLINE):
        while True:  # until the controller has come back, too
            try:
                link = await dialer.dial()
                break
            except TransportError:
                continue

    async with asyncio.timeout(DEADLINE):
        assert await anext(link.commands()) == directive(7)
    await link.close()


async def test_without_a_controller_a_device_is_still_told_what_stands_at_the_broker(
    site: Site, devices: OverMqtt
) -> None:
    one = await site.controller()
    dialer = await devices.dialer("d1")
    link = await dialer.dial()
    await one.bridge.post("d1", directive(3))
    async with asyncio.timeout(DEADLINE):
        assert await anext(link.commands()) == directive(3)
    await link.close()
    await one.die()
    dialer._timeout = 1.0

    with pytest.raises(TransportError, match="no controller is at the broker"):
        await dialer.dial()

    assert devices.desired == [directive(3)]


async def test_a_newer_directive_takes_the_place_of_what_stood_at_the_broker(
    site: Site, devices: OverMqtt
) -> None:
    one = await site.controller()
    dialer = await devices.dialer("d1")
    link = await dialer.dial()
    await one.bridge.post("d1", directive(3))
    await one.bridge.post("d1", directive(4))
    async with asyncio.timeout(DEADLINE):
        async for command in link.commands():
            if command == directive(4):
                break
    await link.close()
    again = await dialer.dial()

    async with asyncio.timeout(DEADLINE):
        assert await anext(again.commands()) == directive(4)
    await again.close()


async def test_a_controller_of_another_fleet_is_not_taken_for_ours(
    site: Site, devices: OverMqtt
) -> None:
    site.own = ControllerSeal(Authorities.new().controller, X25519PrivateKey.generate())
    other = await site.controller()
    dialer = await devices.dialer("d1")
    dialer._timeout = 1.0

    with pytest.raises(TransportError, match="not our controller: not a certificate of our"):
        await dialer.dial()

    assert other.sessions.connected() == frozenset()


async def test_a_command_that_was_sent_while_the_device_slept_arrives_once_when_it_wakes(
    site: Site, devices: OverMqtt
) -> None:
    one = await site.controller()
    dialer = await devices.dialer("d1")
    link = await dialer.dial()
    await devices.isolate("d1")
    await one.sessions.send("d1", refresh())  # the controller does not know yet that it sleeps
    await down(link)
    await link.close()
    devices.cables["d1"].plugged = True

    for awaited in ([refresh(), directive(8)], [directive(9)]):
        again = await dialer.dial()
        await one.sessions.send("d1", awaited[-1])
        received = []
        async with asyncio.timeout(DEADLINE):
            async for command in again.commands():
                received.append(command)
                if command == awaited[-1]:
                    break
        assert [one for one in received if one in awaited] == awaited
        assert (refresh() in received) == (refresh() in awaited)
        await again.close()
