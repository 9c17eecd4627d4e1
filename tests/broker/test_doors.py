"""Who gets through which of a broker's doors, and as whom."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
import pytest

from agent.identity import keys
from controller.broker import listeners
from controller.broker.listeners import Door
from controller.enrolment.authority import (
    KeyPair,
    check_request,
    create_authority,
    issue_client,
    issue_device,
)
from protos.limits import MESSAGE_BYTES
from protos.mqtt import tls, topics
from protos.mqtt.secret_names import secret_name
from protos.mqtt.topics import CONTROLLER, Party
from tests.broker.parties import (
    CLIENT,
    DEVICE,
    FENCE,
    GRANTED,
    NOT_AUTHORISED,
    OTHER,
    connected,
    knock,
)
from tests.brokers import Broker, Certificates, mosquitto

D, C, S = Party.DEVICE, Party.CONTROLLER, Party.STRANGER
SHUT_OUT = -1


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with mosquitto(tmp_path) as running:
        yield running


def a_device(known: Certificates) -> KeyPair:
    return known.device(DEVICE)


def a_controller(known: Certificates) -> KeyPair:
    return known.controller


def nobody(_: Certificates) -> None:
    return None


def a_device_of_another_fleet(_: Certificates) -> KeyPair:
    return Certificates.new().device(DEVICE)


def a_controller_of_another_fleet(_: Certificates) -> KeyPair:
    return Certificates.new().controller


def a_device_that_calls_itself_controller(known: Certificates) -> KeyPair:
    return known.device(CONTROLLER)


def a_controller_by_another_name(known: Certificates) -> KeyPair:
    return issue_client(known.broker_authority, DEVICE, datetime.now(UTC))


def a_device_that_was_long_away(known: Certificates) -> KeyPair:
    return dated(known, datetime.now(UTC) - timedelta(days=31))


def a_device_of_tomorrow(known: Certificates) -> KeyPair:
    return dated(known, datetime.now(UTC) + timedelta(days=1))


def dated(known: Certificates, at: datetime) -> KeyPair:
    key = keys.generate_key()
    request = check_request(keys.certificate_request(key, DEVICE))
    issued = issue_device(known.device_authority, request, DEVICE, at)
    return KeyPair(issued.certificate_pem, key)


def an_authority_of_its_own(_: Certificates) -> KeyPair:
    return create_authority("device CA", datetime.now(UTC))


@pytest.mark.parametrize(
    ("door", "who", "answer"),
    [
        (Door.DEVICES, a_device, GRANTED),
        (Door.DEVICES, a_device_that_calls_itself_controller, GRANTED),
        (Door.DEVICES, a_controller, SHUT_OUT),
        (Door.DEVICES, a_controller_by_another_name, SHUT_OUT),
        (Door.DEVICES, nobody, SHUT_OUT),
        (Door.DEVICES, a_device_of_another_fleet, SHUT_OUT),
        (Door.DEVICES, a_device_that_was_long_away, SHUT_OUT),
        (Door.DEVICES, a_device_of_tomorrow, SHUT_OUT),
        (Door.DEVICES, an_authority_of_its_own, SHUT_OUT),
        (Door.CONTROLLERS, a_controller, GRANTED),
        (Door.CONTROLLERS, a_device, SHUT_OUT),
        (Door.CONTROLLERS, a_device_that_calls_itself_controller, SHUT_OUT),
        (Door.CONTROLLERS, a_controller_of_another_fleet, SHUT_OUT),
        (Door.CONTROLLERS, nobody, SHUT_OUT),
        (Door.STRANGERS, nobody, GRANTED),
        (Door.STRANGERS, a_device_that_was_long_away, GRANTED),
    ],
)
async def test_who_gets_through_which_door(
    broker: Broker, door: Door, who: Callable[[Certificates], KeyPair | None], answer: int
) -> None:
    assert await knock(broker, door, who(broker.certificates)) == answer


@pytest.mark.parametrize("door", Door)
async def test_nobody_comes_without_a_client_id(broker: Broker, door: Door) -> None:
    shown = {
        Door.DEVICES: broker.certificates.device(DEVICE),
        Door.CONTROLLERS: broker.certificates.controller,
        Door.STRANGERS: None,
    }[door]

    assert await knock(broker, door, shown, client_id="") not in {GRANTED, SHUT_OUT}
    assert await knock(broker, door, shown, client_id="k") == GRANTED


async def test_revoked_devices_are_turned_away_and_no_others(broker: Broker) -> None:
    bad, newer, good = (broker.certificates.device(name) for name in (DEVICE, DEVICE, OTHER))
    for shown in (bad, newer, good):
        assert await knock(broker, Door.DEVICES, shown) == GRANTED
    await broker.revoke(bad)
    assert await knock(broker, Door.DEVICES, bad) == SHUT_OUT
    assert await knock(broker, Door.DEVICES, newer) == GRANTED
    await broker.revoke(newer)
    assert [await knock(broker, Door.DEVICES, one) for one in (bad, newer, good)] == [
        SHUT_OUT,
        SHUT_OUT,
        GRANTED,
    ]
    await broker.restart()
    assert await knock(broker, Door.DEVICES, bad) == SHUT_OUT
    assert await knock(broker, Door.DEVICES, good) == GRANTED


@pytest.mark.parametrize("name", [CONTROLLER, OTHER, DEVICE])
async def test_a_stranger_is_a_stranger_whatever_it_calls_itself(broker: Broker, name: str) -> None:
    async with connected(broker, S, username=name, password="x") as stranger:
        assert await stranger.write(topics.desired(OTHER), retain=True) == NOT_AUTHORISED
        assert await stranger.write(topics.call(name)) == NOT_AUTHORISED
        assert await stranger.write(topics.ask(CLIENT)) == GRANTED


@pytest.mark.parametrize("name", [CONTROLLER, OTHER])
async def test_a_device_is_whom_its_certificate_names(broker: Broker, name: str) -> None:
    async with connected(broker, D, username=name, password="x", client_id=name) as device:
        assert await device.write(topics.desired(OTHER), retain=True) == NOT_AUTHORISED
        assert await device.write(topics.call(name)) == NOT_AUTHORISED
        assert await device.write(topics.call(DEVICE)) == GRANTED


@pytest.mark.parametrize("client_id", ["+", "#"])
async def test_a_client_id_is_no_pattern(broker: Broker, client_id: str) -> None:
    async with (
        connected(broker, S, client_id=client_id) as stranger,
        connected(broker, S) as other,
        connected(broker, C) as controller,
    ):
        assert await other.read(topics.answer(CLIENT)) == GRANTED
        for listened in (topics.answer("+"), topics.answer(CLIENT), "#"):
            assert await stranger.read(listened) == GRANTED
        assert await controller.write(topics.answer(CLIENT), FENCE) == GRANTED
        assert await other.until_fence() == []
        # The answer to its own write comes after what was for it before.
        assert await stranger.write(topics.ask(CLIENT)) == NOT_AUTHORISED
        assert len(stranger.messages) == 0


@pytest.mark.parametrize(
    ("topic", "told"),
    [
        (topics.death(DEVICE), [(topics.death(DEVICE), b"dead")]),
        (topics.death(OTHER), []),
        (topics.inbox("c1", OTHER), []),
    ],
)
async def test_a_device_leaves_a_will_for_itself_and_nobody_else(
    broker: Broker, topic: str, told: list[tuple[str, bytes]]
) -> None:
    async with connected(broker, C) as controller:
        for listened in (topics.DEATHS, topics.inbox("+", "+")):
            assert await controller.read(listened) == GRANTED
        will = aiomqtt.Will(topic, b"dead", qos=1)
        async with connected(broker, D, will=will) as device:
            # Who takes the session over has the will of who had it told.
            async with connected(broker, D) as again:
                assert await again.write(topics.inbox("c1", DEVICE), FENCE) == GRANTED
            with pytest.raises(aiomqtt.MqttError):
                await anext(aiter(device.messages))
        assert await controller.until_fence() == told


async def test_who_does_not_know_the_group_takes_no_message_from_the_controllers(
    broker: Broker,
) -> None:
    group = secret_name(broker.certificates.controller.key_pem, "group")
    async with (
        connected(broker, C) as controller,
        connected(broker, S) as thief,
        connected(broker, D, OTHER, client_id="another") as other,
        connected(broker, D) as device,
    ):
        assert await controller.read(topics.shared(group, topics.CALLS)) == GRANTED
        assert await controller.read(topics.inbox("+", "+")) == GRANTED
        for guess in ("muster", "controllers", "a"):
            for who in (thief, other):
                assert await who.read(topics.shared(guess, topics.CALLS)) == GRANTED
        for number in range(10):
            assert await device.write(topics.call(DEVICE), str(number).encode()) == GRANTED
        assert await device.write(topics.inbox("c1", DEVICE), FENCE) == GRANTED
        got = [payload for _, payload in await controller.until_fence()]

    assert got == [str(number).encode() for number in range(10)]


async def test_what_a_device_shall_run_is_kept_over_a_restart(broker: Broker) -> None:
    async with connected(broker, C) as controller:
        for topic in (topics.desired(DEVICE), topics.state("c1")):
            assert await controller.write(topic, b"kept", retain=True) == GRANTED
    await broker.restart()
    async with connected(broker, D) as device, connected(broker, C) as controller:
        assert await device.read(topics.desired(DEVICE)) == GRANTED
        assert await device.read(topics.STATES) == GRANTED
        assert await device.read(topics.down(DEVICE)) == GRANTED
        assert await controller.write(topics.down(DEVICE), FENCE) == GRANTED
        got = await device.until_fence()

    assert got == [(topics.desired(DEVICE), b"kept"), (topics.state("c1"), b"kept")]


async def test_a_killed_broker_is_there_again_on_its_ports(broker: Broker) -> None:
    ports, former = broker.ports, broker.pid
    await broker.kill()
    await broker.start()

    assert (broker.ports, broker.pid != former) == (ports, True)
    async with connected(broker, D) as device:
        assert await device.write(topics.call(DEVICE)) == GRANTED


async def test_a_message_as_large_as_any_of_ours_passes(broker: Broker) -> None:
    assert listeners.PACKET_BYTES == tls.PACKET_BYTES
    async with connected(broker, D) as device:
        assert await device.write(topics.call(DEVICE), bytes(MESSAGE_BYTES)) == GRANTED
