"""Devices are told what they shall do now, by the controller that has their link."""

import asyncio
from dataclasses import replace

import pytest

from controller.federated.task import TaskState
from controller.federated.telling.loop import OrderLoop
from controller.federated.telling.order import order_command
from protos.v1 import command_pb2, federated_pb2
from simulations.memory_store import MemoryStore
from tests.contracts.federated_values import RUN, TASK
from tests.controller.rollout.world import START, HandClock

NOW_MS = int(START * 1000)
POSTED = replace(TASK, posted_ms=NOW_MS, deadline_ms=NOW_MS + 60_000)


class Links:
    """A courier to the devices that are linked here, and what it has brought them."""

    def __init__(self, *devices: str) -> None:
        self.devices = frozenset(devices)
        self.sent: list[tuple[str, str]] = []
        self.news = asyncio.Event()

    async def send(self, device: str, command: bytes) -> None:
        order = command_pb2.Command.FromString(command).federated
        self.sent.append((device, order.task.task_id))
        self.news.set()

    def connected(self) -> frozenset[str]:
        return self.devices

    async def disconnect(self, device: str) -> None:
        raise NotImplementedError


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    with made.begin() as tx:
        tx.runs.put(RUN)
    return made


def post(store: MemoryStore) -> None:
    with store.begin() as tx:
        tx.tasks.add([POSTED, replace(POSTED, id="second", device="dev-2", node=7)])


async def test_of_two_controllers_each_tells_the_devices_that_are_linked_to_it(
    store: MemoryStore,
) -> None:
    one, two = Links("dev-1", "dev-3"), Links("dev-2")
    loops = [OrderLoop(store, links, HandClock()) for links in (one, two)]
    post(store)
    for loop in loops:
        await loop.turn()
        await loop.turn()

    assert one.sent == [("dev-1", TASK.id)]
    assert two.sent == [("dev-2", "second")]


async def test_who_connects_is_told_if_it_was_ever_asked(store: MemoryStore) -> None:
    links = Links("dev-1", "dev-9")
    loop = OrderLoop(store, links, HandClock())
    post(store)
    await loop.connected("dev-1")
    await loop.connected("dev-9")
    with store.begin() as tx:
        tx.tasks.put(replace(POSTED, state=TaskState.ADMITTED))
    await loop.connected("dev-1")

    assert links.sent == [("dev-1", TASK.id), ("dev-1", "")]


async def test_the_loop_tells_when_it_is_woken(store: MemoryStore) -> None:
    links, clock = Links("dev-1"), HandClock()
    loop = OrderLoop(store, links, clock)
    loop.wake()
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(10):
        await clock.asleep.wait()
        post(store)
        loop.wake()
        await links.news.wait()
    running.cancel()
    await asyncio.wait([running])

    assert links.sent == [("dev-1", TASK.id)]


def test_a_task_after_its_deadline_is_none() -> None:
    assert order(NOW_MS).task.remaining_ms == 60_000
    assert order(NOW_MS + 59_999).task.remaining_ms == 1
    assert not order(NOW_MS + 60_000).HasField("task")


def order(now_ms: int) -> federated_pb2.FederatedOrder:
    return command_pb2.Command.FromString(order_command(RUN, POSTED, now_ms)).federated
