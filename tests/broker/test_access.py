"""The access lists that Muster makes, in a real Mosquitto: what each party may do, and what not.

Mosquitto grants every subscription, and delivers nothing that may not be read: what is not delivered
is proven by what comes after it. What may not be written is answered with 0x87.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.mqtt import topics
from protos.mqtt.topics import RULES, Party
from tests.broker.parties import (
    CLIENT,
    DEADLINE,
    DEVICE,
    FENCE,
    GRANTED,
    NOT_AUTHORISED,
    OTHER,
    OTHER_CLIENT,
    connected,
    example,
)
from tests.brokers import Broker, mosquitto

D, C, S = Party.DEVICE, Party.CONTROLLER, Party.STRANGER


HEARD = {D: topics.down(DEVICE), S: topics.answer(CLIENT), C: topics.inbox("+", "+")}
"""What each may hear: the way of the fence."""


async def put_fence(broker: Broker, reader: Party) -> None:
    """Writes, after all that was written, what the reader may hear."""
    writer = D if reader is C else C
    async with connected(broker, writer, client_id="fence") as writing:
        assert (
            await writing.write(
                HEARD[reader].replace("in/+", f"in/{DEVICE}").replace("+", "c1"), FENCE
            )
            == GRANTED
        )


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with mosquitto(tmp_path) as running:
        yield running


PAIRS = [
    (writer.party, reader.party, reader.topic, example(writer.topic))
    for writer in RULES
    for reader in RULES
    if writer.access == "write"
    and reader.access == "read"
    and example(writer.topic) == example(reader.topic)
]


def test_every_rule_is_tried() -> None:
    tried = {(writer, "write", topic) for writer, _, _, topic in PAIRS}
    tried |= {(reader, "read", topic) for _, reader, _, topic in PAIRS}

    assert tried == {(rule.party, rule.access, example(rule.topic)) for rule in RULES}


@pytest.mark.parametrize(("writer", "reader", "listened", "topic"), PAIRS)
async def test_what_is_allowed_arrives(
    broker: Broker, writer: Party, reader: Party, listened: str, topic: str
) -> None:
    listened = listened.replace("{device}", DEVICE).replace("{client}", CLIENT)
    async with connected(broker, reader) as reading, connected(broker, writer) as writing:
        assert await reading.read(listened) == GRANTED
        assert await writing.write(topic, b"now") == GRANTED
        assert await writing.write(topic, FENCE) == GRANTED
        assert await reading.until_fence() == [(topic, b"now")]


@pytest.mark.parametrize(
    ("listened", "writer", "topic"),
    [
        (topics.shared("group", topics.CALLS), D, topics.call(DEVICE)),
        (topics.shared("group", topics.ASKS), S, topics.ask(CLIENT)),
    ],
)
async def test_controllers_share_what_any_of_them_may_answer(
    broker: Broker, listened: str, writer: Party, topic: str
) -> None:
    async with (
        connected(broker, C, client_id="c1") as one,
        connected(broker, C, client_id="c2") as two,
        connected(broker, writer) as writing,
    ):
        for reading in (one, two):
            assert await reading.read(listened) == GRANTED
            assert await reading.read(topics.inbox("+", "+")) == GRANTED
        for number in range(10):
            assert await writing.write(topic, str(number).encode()) == GRANTED
        await put_fence(broker, C)
        got = [payload for each in (one, two) for _, payload in await each.until_fence()]

    assert sorted(got) == [str(number).encode() for number in range(10)]


FORBIDDEN_WRITES = [
    *((D, make(OTHER)) for make in (topics.call, topics.death, topics.down, topics.desired)),
    (D, topics.desired(DEVICE)),
    (D, topics.down(DEVICE)),
    (D, topics.state("c1")),
    (D, topics.state(DEVICE)),
    (D, topics.inbox("c1", OTHER)),
    (D, topics.ask(DEVICE)),
    (D, topics.answer(CLIENT)),
    (D, "$SYS/broker/version"),
    (D, "$CONTROL/dynamic-security/v1"),
    (D, "muster/v1"),
    (D, "muster/v2/devices/cam-1/call"),
    (D, "anything"),
    *((S, make(DEVICE)) for make in (topics.call, topics.death, topics.down, topics.desired)),
    (S, topics.ask(OTHER_CLIENT)),
    (S, topics.answer(CLIENT)),
    (S, topics.state("c1")),
    (S, topics.inbox("c1", CLIENT)),
    (S, "$SYS/broker/version"),
    (S, "anything"),
    # A controller that was taken over does not speak for devices at the broker either.
    *((C, make(DEVICE)) for make in (topics.call, topics.death)),
    (C, topics.inbox("c1", DEVICE)),
    (C, topics.ask(CLIENT)),
    (C, "$SYS/broker/version"),
    (C, "anything"),
]


@pytest.mark.parametrize(("party", "topic"), FORBIDDEN_WRITES)
async def test_what_is_forbidden_is_not_taken(broker: Broker, party: Party, topic: str) -> None:
    async with connected(broker, party) as writing:
        assert await writing.write(topic) == NOT_AUTHORISED
        assert await writing.write(topic, retain=True) == NOT_AUTHORISED


# Who listens, and what somebody else may write that they must not hear.
UNHEARD = [
    *((D, C, make(OTHER)) for make in (topics.desired, topics.down)),
    (D, D, topics.call(DEVICE)),
    (D, D, topics.death(DEVICE)),
    (D, D, topics.inbox("c1", DEVICE)),
    (D, C, topics.answer(CLIENT)),
    (D, S, topics.ask(OTHER_CLIENT)),
    *((S, C, make(DEVICE)) for make in (topics.desired, topics.down)),
    (S, C, topics.answer(OTHER_CLIENT)),
    (S, S, topics.ask(OTHER_CLIENT)),
    (S, D, topics.call(DEVICE)),
    (S, D, topics.inbox("c1", DEVICE)),
    (C, C, topics.desired(DEVICE)),
    (C, C, topics.down(DEVICE)),
    (C, C, topics.state("c1")),
    (C, C, topics.answer(CLIENT)),
]
FILTERS = ("{}", "#", "muster/v1/#", "+/+/+/#", "$share/group/{}")


@pytest.mark.parametrize("listened", FILTERS)
@pytest.mark.parametrize(("reader", "writer", "topic"), UNHEARD)
async def test_what_is_forbidden_is_not_delivered(
    broker: Broker, reader: Party, writer: Party, topic: str, listened: str
) -> None:
    async with (
        connected(broker, reader, client_id=CLIENT) as reading,
        connected(broker, writer, client_id=OTHER_CLIENT) as writing,
    ):
        assert await writing.write(topic, b"before", retain=True) == GRANTED
        assert await reading.read(listened.format(topic)) == GRANTED
        assert await reading.read(HEARD[reader]) == GRANTED
        assert await writing.write(topic, b"after") == GRANTED
        await put_fence(broker, reader)
        assert await reading.until_fence() == []


async def test_nobody_hears_what_the_broker_tells_of_itself(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        await broker.stop()
        for name, old, new in [
            ("mosquitto.conf", "sys_interval 0", "sys_interval 1"),
            ("controllers.acl", "topic read", "topic read $SYS/#\ntopic read"),
        ]:
            path = broker.folder / name
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new, 1))
        await broker.start()
        async with (
            connected(broker, D) as device,
            connected(broker, S) as stranger,
            connected(broker, C) as allowed,
        ):
            for reading in (device, stranger, allowed):
                assert await reading.read("$SYS/#") == GRANTED
            async with asyncio.timeout(DEADLINE):
                assert str((await anext(aiter(allowed.messages))).topic).startswith("$SYS/")
            for reading, party in ((device, D), (stranger, S)):
                assert await reading.read(HEARD[party]) == GRANTED
                await put_fence(broker, party)
                assert await reading.until_fence() == []
