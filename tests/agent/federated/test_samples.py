"""A model that is its own target keeps a fair sample of its requests; and what is too old goes."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from agent.federated.collecting.loop import keep_fresh
from agent.federated.collecting.samples import AT_ONCE
from agent.federated.errors import NotCollecting, UnknownRequest
from agent.federated.retention import Retention
from protos.train_step import Loss
from tests.agent.federated.collectors import ROOM, ROW, Device, Hand
from tests.agent.federated.learners import Learner, classifier, clouds, linear


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier()


@pytest.fixture
def device(learner: Learner) -> Device:
    return Device(learner)


def test_a_model_that_is_its_own_target_learns_from_its_requests() -> None:
    device = Device(linear(4, loss=Loss.RECONSTRUCTION))
    x, _ = clouds(AT_ONCE + 9)
    for row in x:
        device.collector.answered("learner", 1, "", {"x": row[None]})

    assert AT_ONCE <= len(device.rows()) < len(x), "no request waits for the disk alone"
    device.collector.close()
    device.collector.close()

    assert sorted(row for row, _ in device.rows()) == sorted(x.tolist())
    with pytest.raises(UnknownRequest):
        device.collector.feedback("learner", None, "r1", [0])
    with pytest.raises(NotCollecting, match="its own target"):
        device.collector.add("learner", None, {"x": ROW}, [1])


def test_a_sample_is_fair_to_early_and_late_rows() -> None:
    device = Device(
        linear(4, loss=Loss.RECONSTRUCTION), retention=Retention(examples=200, hold_out=0)
    )
    for at in range(4000):
        device.collector.answered("learner", 1, "", {"x": np.full((1, 4), at, np.float32)})
    device.collector.close()

    kept = [row[0] for row, _ in device.rows()]

    assert len(kept) == 200
    assert 70 < sum(at < 2000 for at in kept) < 130
    assert 1600 < float(np.mean(kept)) < 2400


def test_examples_that_are_too_old_go_and_make_room_for_samples() -> None:
    retention = Retention(examples=AT_ONCE, hold_out=0, seconds=86400.0)
    device = Device(linear(4, loss=Loss.RECONSTRUCTION), retention=retention)
    for at in range(20 * AT_ONCE):
        device.collector.answered("learner", 1, "", {"x": np.full((1, 4), at, np.float32)})
    device.clock.at += 2 * 86400
    device.collector.expire()
    assert device.rows() == []

    for at in range(AT_ONCE):
        device.collector.answered("learner", 1, "", {"x": np.full((1, 4), -at, np.float32)})

    assert len(device.rows()) == AT_ONCE


class Hours(Hand):
    """Notes what there is every time that somebody sleeps, and has enough after some hours."""

    def __init__(self, hours: int, count: Callable[[], int] = int) -> None:
        super().__init__()
        self.counted: list[int] = []
        self._hours, self._count = hours, count

    async def sleep(self, seconds: float) -> None:
        assert seconds == 3600.0
        self.at += seconds
        self.counted.append(self._count())
        if len(self.counted) == self._hours:
            raise asyncio.CancelledError


async def test_what_is_too_old_is_let_go_every_hour(learner: Learner) -> None:
    hours = Hours(4, lambda: len(aged.rows()))
    aged = Device(learner, ROOM, Retention(hold_out=0.0, seconds=7200.0), hours)
    aged.collector.add("learner", None, {"x": ROW}, [0])

    with pytest.raises(asyncio.CancelledError):
        await keep_fresh(aged.collector, hours)

    assert hours.counted == [1, 1, 1, 0]


async def test_a_disk_that_fails_is_tried_again_in_an_hour(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.examples.close()
    hours = Hours(2)

    with pytest.raises(asyncio.CancelledError):
        await keep_fresh(device.collector, hours)

    assert [one.msg.split()[0] for one in caplog.records] == ["examples.not-expired"] * 2
