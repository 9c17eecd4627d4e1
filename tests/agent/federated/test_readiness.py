"""What a device says of its readiness: at each link, when it has changed, and not all the time."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from agent.errors import Refused, StoreError, TransportError
from agent.federated.eligibility import Condition, Ground, Terms
from agent.federated.readiness.loop import ReadinessLoop
from agent.federated.readiness.message import COUNTS_SECONDS, Heard, Told, is_news, message, told
from agent.federated.task.subject import Subject
from agent.install.gates import Battery, Circumstances
from protos.v1 import federated_pb2
from tests.agent.federated.world import START, SUBJECT, HandClock, at_once, manifest

READY = Told(
    model="digits",
    version=3,
    manifest_sha256="a" * 64,
    code="",
    words="",
    examples=100,
    held_out=20,
)
BUSY = replace(READY, code="busy", words="requests")


def test_every_model_with_a_training_step_is_told_of() -> None:
    unfit = Subject(
        manifest=manifest(4),
        step=None,
        ground=Ground(trainable=False, objection="the operator 'If'"),
    )
    bare = Subject(
        manifest=replace(manifest(), model="bare", files={}),
        step=None,
        ground=Ground(trainable=False),
    )
    on_battery = Condition(circumstances=Circumstances(START, Battery(90, on_mains=False)))
    subjects = {"digits": SUBJECT, "unfit": unfit, "bare": bare}

    models = told(subjects, Terms(), on_battery)

    assert [(one.version, one.code, one.examples) for one in models] == [
        (3, "on-battery", 40),
        (4, "not-trainable", 0),
    ]
    assert models[1].words == "the operator 'If'"
    wire = message(models).models
    assert [(one.eligible, one.reason) for one in wire] == [
        (False, "on-battery"),
        (False, "not-trainable"),
    ]
    assert (wire[0].manifest_sha256, wire[0].held_out) == (manifest().digest, 10)


@pytest.mark.parametrize(
    ("models", "seconds", "news"),
    [
        ((READY,), 1e6, False),
        ((BUSY,), 0.0, True),
        ((), 0.0, True),
        ((replace(READY, version=4, manifest_sha256="b" * 64),), 0.0, True),
        ((replace(READY, examples=101),), COUNTS_SECONDS - 1, False),
        ((replace(READY, examples=101),), COUNTS_SECONDS, True),
        ((replace(READY, examples=126),), 0.0, True),
        ((replace(READY, held_out=0),), 0.0, True),
        ((replace(READY, words="other words"),), 0.0, False),
    ],
)
def test_what_is_news(models: tuple[Told, ...], seconds: float, news: bool) -> None:
    heard = Heard((READY,), at=50.0)

    assert is_news(heard, models, 50.0 + seconds) == news
    assert is_news(None, models, 50.0)


@dataclass
class Listener:
    """The other end; it may be away."""

    models: tuple[Told, ...] = (READY,)
    up: bool = True
    broken: bool = False
    patience_ms: int = 0
    refused: list[float] = field(default_factory=list)
    clock: HandClock = field(default_factory=HandClock)
    heard: list[list[str]] = field(default_factory=list)
    noted: list[tuple[Told, ...]] = field(default_factory=list)
    looks: int = 0

    def look(self) -> tuple[Told, ...]:
        self.looks += 1
        if self.broken:
            raise StoreError("the examples can't be counted")
        return self.models

    async def publish(self, said: federated_pb2.Readiness) -> None:
        await asyncio.sleep(0)
        if not self.up:
            raise TransportError("no link")
        if self.patience_ms:
            self.refused.append(self.clock.seconds)
            raise Refused("too-often", "not now", "", self.patience_ms)
        self.heard.append([one.reason for one in said.models])

    @contextlib.asynccontextmanager
    async def loop(self) -> AsyncIterator[ReadinessLoop]:
        loop = ReadinessLoop(
            self.look,
            self.publish,
            self.noted.append,
            self.clock,
            random.Random(1),  # noqa: S311 - chance that a test can repeat
            at_once,
        )
        running = asyncio.create_task(loop.run())
        try:
            yield loop
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not happened():
                self.clock.go(0.25)
                await asyncio.sleep(0)

    async def looked(self) -> None:
        """It has looked once more, and said what there was to say."""
        before = self.looks
        await self.until(lambda: self.looks >= before + 2)


async def test_it_says_how_things_are_once_and_again_at_each_link() -> None:
    listener = Listener()
    async with listener.loop() as loop:
        await listener.looked()
        assert listener.heard == [[""]]
        loop.link_up()
        await listener.until(lambda: len(listener.heard) == 2)
        await listener.looked()

    assert listener.heard == [[""]] * 2
    assert listener.noted == [(READY,)]


async def test_it_says_what_has_changed_and_notes_it() -> None:
    listener = Listener()
    async with listener.loop() as loop:
        await listener.looked()
        listener.models = (BUSY,)
        loop.wake()
        await listener.until(lambda: len(listener.heard) == 2)

    assert listener.heard == [[""], ["busy"]]
    assert listener.noted == [(READY,), (BUSY,)]


async def test_what_changes_all_the_time_is_told_once_a_second_at_most() -> None:
    listener = Listener()
    async with listener.loop() as loop:
        began = listener.clock.seconds
        for number in range(200):
            listener.models = (BUSY,) if number % 3 else (READY,)
            loop.wake()
            listener.clock.go(0.25)
            for _ in range(20):
                await asyncio.sleep(0)

    assert 10 < len(listener.heard) <= listener.clock.seconds - began + 1


async def test_who_is_asked_for_patience_says_it_then() -> None:
    listener = Listener(patience_ms=30_000)
    async with listener.loop() as loop:
        await listener.until(lambda: len(listener.refused) == 3)
        listener.patience_ms = 0
        loop.wake()
        await listener.until(lambda: len(listener.heard) == 1)

    first, second, third = listener.refused
    assert min(second - first, third - second, listener.clock.seconds - third) >= 30


async def test_a_new_link_ends_the_patience_that_the_last_one_asked_for() -> None:
    listener = Listener(patience_ms=600_000)
    async with listener.loop() as loop:
        await listener.until(lambda: len(listener.refused) == 1)
        listener.patience_ms = 0
        loop.link_up()
        await listener.until(lambda: len(listener.heard) == 1)

    assert listener.clock.seconds < 30


async def test_without_a_link_it_says_it_as_soon_as_there_is_one() -> None:
    listener = Listener(up=False)
    async with listener.loop() as loop:
        await listener.looked()
        listener.up = True
        loop.link_up()
        await listener.until(lambda: listener.heard == [[""]])


async def test_it_outlives_what_can_not_be_looked_at() -> None:
    listener = Listener(broken=True)
    async with listener.loop():
        await listener.looked()
        listener.broken = False
        await listener.until(lambda: listener.heard == [[""]])
