"""Power goes between any two steps; what was durable is all that the next run knows."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import pytest

from agent.errors import SelfTestMismatch, TransportError
from agent.install.fallback import MayRun
from agent.install.machine import State
from agent.install.record import Install, Slot
from agent.install.report import report
from protos.documents import Conditions, Window
from simulations.power import Power
from tests.agent.install.outside import KEY, Outside, bundle, stepped
from tests.agent.install.world import Device, recalling

ONE, TWO = bundle(version=1), bundle(version=2)
STEPPED = stepped(ONE, 2)


@dataclass(frozen=True)
class Story:
    """What happens to a device that has committed version 1; version 2 is what it is about."""

    name: str
    prepare: Callable[[Outside], None] = lambda _: None
    wanted: tuple[str, ...] = ("two",)
    before: tuple[str, ...] = ("one",)
    may_run: MayRun | None = None


class CutAt(Power):
    """Goes at the first step of a name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def step(self, name: str) -> None:
        if name == self._name:
            self.cut_at = len(self.steps)
        super().step(name)


def fail_self_test(outside: Outside) -> None:
    outside.failing[TWO.sha256] = SelfTestMismatch("off")


def fail_in_service(outside: Outside) -> None:
    outside.bad_in_service.add(TWO.sha256)


def lose_the_link(outside: Outside) -> None:
    outside.errors["fetch"] = [TransportError("gone"), TransportError("gone again")]


STORIES = [
    Story("a first version", before=()),
    Story("a better version"),
    Story("a version that fails its self-test", fail_self_test),
    Story("a version that fails in service", fail_in_service),
    Story("a link that comes and goes", lose_the_link),
    Story("a version that waits for its window", wanted=("two at night",)),
    Story("a version that fails after its window", fail_in_service, wanted=("two at night",)),
    Story("a version that is a step from its parent", wanted=("stepped",)),
    Story("nothing is wanted any more", wanted=()),
    Story("back to what is committed", wanted=("one",)),
    Story("the committed version is recalled", may_run=recalling(ONE.sha256), wanted=("one",)),
    Story("its successor is recalled", may_run=recalling(TWO.sha256)),
]
AT_NIGHT = Conditions(windows=(Window(start_minute=2 * 60, minutes=60),), battery_percent=50)
ASSIGNMENTS = {
    "one": ONE.assignment(),
    "two": TWO.assignment(),
    "stepped": STEPPED.assignment(),
    "two at night": TWO.assignment(conditions=AT_NIGHT),
}


async def begun(story: Story) -> Device:
    """The device as the story finds it, powered down."""
    outside = Outside()
    outside.add(ONE, TWO, STEPPED)
    device = Device(outside)
    if story.before:
        device.direct(1, *(ASSIGNMENTS[name] for name in story.before))
        await device.settle()
        device = device.restarted()
    story.prepare(outside)
    return device


async def played(story: Story, device: Device) -> None:
    """One run of the agent, until it is settled or power goes."""
    device.direct(2, *(ASSIGNMENTS[name] for name in story.wanted))
    if story.may_run is not None and not await device.enforced(story.may_run):
        return
    await device.settle()


def outcome(device: Device) -> tuple[list[Install], list[Slot], set[str], object]:
    """What must not depend on power: all but times and how often it went."""
    installs = [
        msgspec.structs.replace(one, since=0.0, resumptions=0, fetched_bytes=0, model_bytes=0)
        for one in device.inner.installs.installs()
    ]
    kept = set(device.blobs.complete)
    slots = list(device.inner.installs.slots())
    refused = [replace(one, at=0.0) for one in device.inner.installs.quarantines()]
    return installs, slots, kept, refused


def check_always_true(device: Device) -> None:
    """Holds at any moment, powered or not."""
    assert device.lost() == [], "whatever a slot points at can be loaded"
    assert device.inner.installs.generation() >= 1
    for install in device.inner.installs.installs():
        if install.state is State.FAILED and install.code in {
            "self-test-mismatch", "probation-failed", "crash-loop",
        }:  # fmt: skip
            assert device.inner.installs.quarantined(install.sha256) is not None
    for slot in device.inner.installs.slots():
        assert slot.active is not None
    reports = report(
        device="d", counter=1, generation=2, reported_at=0, agent_version="1",
        slots=device.inner.installs.slots(), installs=device.inner.installs.installs(),
        loaded=device.loop.loaded(),
    )  # fmt: skip
    assert len([one for one in reports.wanted if (one.model, one.slot) == KEY]) <= 1


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
async def test_power_at_every_step_ends_in_the_same_state(story: Story) -> None:
    undisturbed = await begun(story)
    await played(story, undisturbed)
    expected, steps = outcome(undisturbed), len(undisturbed.power.steps)
    assert steps >= 3
    answers = undisturbed.deployments.answers()

    for cut_at in range(steps):
        device = await begun(story)
        device = device.restarted(Power(cut_at))
        await played(story, device)
        assert device.power.gone
        check_always_true(device)

        device = device.restarted()
        await played(story, device)

        assert outcome(device) == expected, f"power went at step {cut_at}"
        assert device.deployments.answers() == answers
        check_always_true(device)


@pytest.mark.parametrize("story", [STORIES[1], STORIES[3]], ids=lambda story: story.name)
async def test_power_twice_in_a_row_ends_in_the_same_state(story: Story) -> None:
    undisturbed = await begun(story)
    await played(story, undisturbed)
    expected, steps = outcome(undisturbed), len(undisturbed.power.steps)

    for first in range(0, steps, 6):
        for second in range(0, steps, 7):
            device = (await begun(story)).restarted(Power(first))
            await played(story, device)
            device = device.restarted(Power(second))
            await played(story, device)
            check_always_true(device)
            device = device.restarted()
            await played(story, device)

            assert outcome(device) == expected, f"power went at steps {first} and {second}"


async def test_power_that_goes_at_every_self_test_is_a_crash_loop() -> None:
    story = Story("a model that takes the device down")
    device = await begun(story)
    for _ in range(4):
        device = device.restarted(CutAt("self-test"))
        await played(story, device)
        assert device.power.gone
        assert device.install.state is State.SELF_TEST

    device = device.restarted(CutAt("self-test"))
    await played(story, device)

    assert not device.power.gone, "it is not tried a fifth time"
    assert (device.install.state, device.install.code) == (State.FAILED, "crash-loop")
    assert device.inner.installs.quarantined(TWO.sha256) is not None
    assert device.deployments.answers() == 1


async def test_the_cuts_reach_every_state_that_is_written() -> None:
    """Otherwise the tests above would prove less than they say."""
    found, waited_for = set[State](), set[str]()
    for story in (STORIES[1], STORIES[2], STORIES[5]):
        undisturbed = await begun(story)
        await played(story, undisturbed)
        for cut_at in range(len(undisturbed.power.steps)):
            device = (await begun(story)).restarted(Power(cut_at))
            await played(story, device)
            found.add(device.install.state)
            waited_for.add(device.install.code)

    assert found == set(State) - {State.IDLE}
    assert "outside-window" in waited_for
