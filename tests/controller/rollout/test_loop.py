import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator

import pytest

from controller.errors import Conflict, InvalidInput, StoreError
from controller.rollout import actions
from controller.rollout.loop import REST_SECONDS, directive_command
from controller.rollout.rollout import SignedDirective, State
from controller.rollout.standing import Outcome
from controller.rollout.turn.actions import Tenure, Turn, take_turn
from controller.rollout.turn.books import Books
from controller.store.rollout_tables import DIRECTIVES_KEPT
from protos.documents import Directive
from protos.envelope import seal
from protos.manifest import target_path
from simulations.memory_store import MemoryStore
from simulations.memory_store.store import MemoryTransaction
from tests.controller.rollout.world import HandClock, World, directives

DEADLINE = 5.0


async def small_world(*names: str, store: MemoryStore | None = None) -> World:
    world = World(store)
    for line in (f"device {' '.join(names)} site=berlin", "publish digits/1", "publish digits/2"):
        await world.run(line)
    return world


async def eventually(holds: object, woken: asyncio.Event) -> None:
    assert callable(holds)
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await woken.wait()
            woken.clear()


async def test_a_directive_says_everything_that_the_device_shall_run() -> None:
    world = await small_world("pi-01")
    await world.run("publish faces/3")
    await world.run("start digits/1 all")
    await world.run("start faces/3 all challenger")
    await world.loop.turn()
    (told,) = directives(world, "pi-01")
    with world.store.begin() as tx:
        version = tx.registry.version("digits", 1)

    assert version is not None
    digits, faces = told.assignments
    assert (digits.model, digits.slot, digits.rollout) == ("digits", "champion", "digits-1-1")
    assert digits.target == target_path("digits", 1)
    assert (digits.sha256, digits.length) == (version.manifest_sha256, len(version.manifest))
    assert (faces.model, faces.version, faces.slot) == ("faces", 3, "challenger")


async def test_generations_go_on_where_the_store_left_off() -> None:
    world = await small_world("pi-01")
    with world.store.begin() as tx:
        before = Directive(device="pi-01", generation=41, issued_at=0)
        tx.rollouts.put_directive(SignedDirective("pi-01", 41, seal(before, world.director), 0))
    await world.run("start digits/1 all")
    await world.loop.turn()

    assert [one.generation for one in directives(world, "pi-01")] == [41, 42]


def taken(world: World, books: Books | None = None) -> Turn:
    """A turn that is recorded, and goes no further."""
    tenure = Tenure("controller")
    return take_turn(world.store, books or Books(), tenure, world.clock.at)


async def test_a_crash_after_recording_and_before_signing_is_made_up_for() -> None:
    world = await small_world("pi-01")
    await world.run("start digits/1 all")
    due = taken(world).due
    assert [one.device for one in due] == ["pi-01"]
    assert directives(world, "pi-01") == []

    await world.new_loop().turn()

    assert [one.generation for one in directives(world, "pi-01")] == [1]
    assert [name for name, _ in world.post.sent] == ["pi-01"]


async def test_a_crash_after_signing_signs_nothing_twice_and_tells_on_connect() -> None:
    world = await small_world("pi-01")
    await world.run("start digits/1 all")
    world.loop._sign(taken(world, world.loop._books).due)

    again = world.new_loop()
    await again.turn()
    assert world.post.sent == []
    await again.connected("pi-01")

    assert [one.generation for one in directives(world, "pi-01")] == [1]
    with world.store.begin() as tx:
        stored = tx.rollouts.directive("pi-01")
    assert stored is not None
    assert world.post.sent == [("pi-01", directive_command(stored))]


async def test_a_failure_counts_however_many_directives_came_since() -> None:
    world = await small_world("pi-01", "pi-02")
    await world.run("start digits/1 all")
    await world.loop.turn()
    await world.run("report pi-01 try digits/1 failed:self-test-mismatch")
    for version in range(1, DIRECTIVES_KEPT + 2):
        await world.run(f"publish faces/{version}")
        await world.run(f"start faces/{version} all")
        await world.loop.turn()

    with world.store.begin() as tx:
        shown = actions.show(tx, "digits-1-1", world.clock.at)

    assert [one.outcome for one in shown.standings] == [Outcome.FAILED, Outcome.WAITING]


class LateReader(MemoryStore):
    """Holds back who has read, once, until ``go``."""

    def __init__(self) -> None:
        super().__init__()
        self.has_read, self.go = threading.Event(), threading.Event()
        self.hold = False

    @contextlib.contextmanager
    def read(self) -> Iterator[MemoryTransaction]:
        held, self.hold = self.hold, False
        with super().read() as tx:
            yield tx
        if held:
            self.has_read.set()
            assert self.go.wait(DEADLINE)


async def test_a_device_that_connects_during_a_turn_is_told_the_newest_directive_last() -> None:
    world = await small_world("pi-01", store=LateReader())
    assert isinstance(world.store, LateReader)
    await world.run("start digits/1 all")
    await world.loop.turn()
    world.store.hold = True
    connecting = asyncio.create_task(world.loop.connected("pi-01"))
    assert await asyncio.to_thread(world.store.has_read.wait, DEADLINE)

    await world.run("start digits/2 all")
    await world.loop.turn()
    world.store.go.set()
    await connecting

    _, newest = directives(world, "pi-01")
    assert newest.generation == 2
    with world.store.begin() as tx:
        stored = tx.rollouts.directive("pi-01")
    assert stored is not None
    assert world.post.sent[-1] == ("pi-01", directive_command(stored))


async def test_a_device_that_nothing_is_wanted_of_is_told_nothing() -> None:
    world = await small_world("pi-01")
    await world.loop.turn()
    await world.loop.connected("pi-01")

    assert directives(world, "pi-01") == []
    assert world.post.sent == []


async def test_a_directive_of_somebody_else_is_not_overwritten() -> None:
    world = await small_world("pi-01")
    await world.loop.turn()
    with world.store.begin() as tx:
        other = Directive(device="pi-01", generation=7, issued_at=0)
        tx.rollouts.put_directive(SignedDirective("pi-01", 7, seal(other, world.director), 0))
    await world.run("start digits/1 all")

    with pytest.raises(Conflict, match="which has 7"):
        await world.loop.turn()
    await world.loop.turn()

    assert [one.generation for one in directives(world, "pi-01")] == [7, 8]


async def test_it_turns_when_it_is_woken_from_any_thread() -> None:
    world = await small_world("pi-01")
    sent = asyncio.Event()
    send = world.post.send

    async def noted(device: str, command: bytes) -> None:
        await send(device, command)
        sent.set()

    world.post.send = noted  # type: ignore[method-assign]
    task = asyncio.create_task(world.loop.run())
    try:
        await world.run("start digits/1 all")
        threading.Thread(target=world.loop.wake).start()
        await eventually(lambda: len(world.post.sent) == 1, sent)
        await world.run("start digits/2 all")
        world.loop.wake()
        await eventually(lambda: len(world.post.sent) == 2, sent)
        await eventually(lambda: world.clock.slept == 30.0, world.clock.asleep)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class RestingClock(HandClock):
    """The rest between two turns ends when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.rests: list[float] = []
        self.resting, self.rested = asyncio.Event(), asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds >= 30.0:
            await super().sleep(seconds)
        self.rests.append(seconds)
        self.resting.set()
        await self.rested.wait()
        self.rested.clear()


async def test_turns_rest_in_between_however_often_the_loop_is_woken() -> None:
    world = await small_world("pi-01")
    world.clock = clock = RestingClock()
    loop = world.loop = world.new_loop()
    task = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(DEADLINE):
            await clock.resting.wait()
            await world.run("start digits/1 all")
            for _ in range(10):
                loop.wake()
            clock.resting.clear()
            for _ in range(10):
                await asyncio.sleep(0)
            assert world.post.sent == []
            clock.rested.set()
            await clock.resting.wait()
        assert len(world.post.sent) == 1
        assert clock.rests == [REST_SECONDS, REST_SECONDS]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_device_whose_reports_stay_behind_is_told_again_ever_more_rarely() -> None:
    world = await small_world("pi-01")
    await world.run("start digits/1 all")
    await world.loop.turn()
    first = world.post.sent.pop()
    told = []
    for minute in range(1, 17):
        world.clock.at += 60
        await world.loop.turn()
        if world.post.sent:
            assert world.post.sent == [first]
            world.post.sent.clear()
            told.append(minute)

    assert told == [1, 3, 7, 15]
    await world.run("report pi-01 try digits/1 fetching")
    world.clock.at += 10_000
    await world.loop.turn()
    assert world.post.sent == []


async def test_a_device_that_is_away_is_told_when_it_connects_and_not_before() -> None:
    world = await small_world("pi-01")
    await world.run("start digits/1 all")
    await world.loop.turn()
    world.post.sent.clear()
    await world.run("link pi-01 down")
    await world.loop.turn()
    await world.run("link pi-01 up")
    world.clock.at += 10_000
    await world.loop.turn()
    assert world.post.sent == []

    await world.loop.connected("pi-01")

    assert len(world.post.sent) == 1


async def test_a_turn_that_changes_nothing_writes_nothing() -> None:
    world = await small_world("pi-01", store=ReadOnlyWhenTold())
    assert isinstance(world.store, ReadOnlyWhenTold)
    await world.run("start digits/1 all")
    await world.loop.turn()
    world.store.read_only = True

    made = await world.loop.turn()

    assert made.empty


class ReadOnlyWhenTold(MemoryStore):
    """A store that somebody else writes all the time."""

    read_only = False

    @contextlib.contextmanager
    def begin(self) -> Iterator[MemoryTransaction]:
        assert not self.read_only
        with super().begin() as tx:
            yield tx


async def test_a_turn_that_fails_is_logged_and_the_next_one_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = await small_world("pi-01")
    world.store.close()
    failed = asyncio.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                failed.set()

    told = Told()
    logging.getLogger("controller.rollout.loop").addHandler(told)
    task = asyncio.create_task(world.loop.run())
    try:
        async with asyncio.timeout(DEADLINE):
            await failed.wait()
            failed.clear()
            world.loop.wake()
            await failed.wait()
    finally:
        logging.getLogger("controller.rollout.loop").removeHandler(told)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert [one.exc_info[0] for one in caplog.records if one.exc_info] == [StoreError, StoreError]


async def test_waking_before_and_after_it_runs_harms_nobody() -> None:
    world = await small_world("pi-01")
    world.loop.wake()
    task = asyncio.create_task(world.loop.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    world.loop.wake()


async def test_a_rollout_that_started_later_is_newer_whatever_the_clock_says() -> None:
    world = await small_world("pi-01")
    await world.run("start digits/1 all")
    world.clock.at -= 1_000_000
    await world.run("start digits/2 all")
    await world.loop.turn()

    (told,) = directives(world, "pi-01")
    assert [one.version for one in told.assignments] == [2]


async def test_a_rollout_can_name_an_alias_and_says_who_started_it() -> None:
    world = await small_world("pi-01")
    with world.store.begin() as tx:
        tx.registry.put_alias("digits", "champion", 2)
        made = actions.start(tx, "digits@champion", "site = berlin", "ada", world.clock.at)
        last = tx.audit.last()
        with pytest.raises(InvalidInput, match="slot"):
            actions.start(tx, "digits/1", "all", "ada", 0.0, actions.Order("third"))

    assert (made.id, made.version, made.selector) == ("digits-2-1", 2, "site=berlin")
    assert made.state is State.RUNNING
    assert last is not None
    assert (last.entry.actor, last.entry.action) == ("ada", "rollout.start")


async def test_a_preview_names_devices_and_objections_and_changes_nothing() -> None:
    world = await small_world("pi-01", "pi-02")
    await world.run("device nuc-1 arch=x86_64")
    await world.run("publish digits/3 arch=aarch64")
    with world.store.begin() as tx:
        found = actions.preview(tx, "digits/3", "all")
        assert tx.rollouts.all() == []

    assert found.devices == ("pi-01", "pi-02")
    assert found.incompatible == {"nuc-1": ("needs aarch64, is x86_64",)}


async def test_rollouts_are_listed_newest_first() -> None:
    world = await small_world("pi-01")
    await world.run("start digits/1 all")
    await world.run("start digits/2 all")
    with world.store.begin() as tx:
        listed = actions.list_rollouts(tx, world.clock.at)

    assert [one.rollout.id for one in listed] == ["digits-2-1", "digits-1-1"]
