"""People ask for a version again that a device keeps out: a higher attempt is tried, the same is not."""

from dataclasses import replace

import msgspec
import pytest

from agent.errors import SelfTestMismatch
from agent.install.edit import is_quarantined, is_redeemed, quarantine_of
from agent.install.machine import State
from agent.install.record import Install
from agent.install.report import report
from protos.documents import SlotReport
from simulations.power import Power
from tests.agent.install.outside import Outside, bundle
from tests.agent.install.world import Device

ONE, TWO, THREE = (bundle(version=number) for number in (1, 2, 3))


@pytest.fixture
def outside() -> Outside:
    world = Outside()
    world.add(ONE, TWO, THREE)
    world.failing[TWO.sha256] = SelfTestMismatch("output 3 is off")
    return world


async def with_failed_two(outside: Outside) -> Device:
    """A device on which version 1 runs and version 2 has failed at its first attempt."""
    device = Device(outside)
    device.direct(1, ONE.assignment())
    await device.settle()
    return await directed(device, 2)


async def directed(device: Device, generation: int, attempt: int = 1, rollout: str = "") -> Device:
    """The device, started again, once it is settled under a directive that wants version 2."""
    device = device.restarted()
    device.direct(generation, TWO.assignment(attempt=attempt, rollout=rollout))
    await device.settle()
    return device


def said(device: Device) -> SlotReport:
    (wanted,) = report(
        device="d", counter=1, generation=9, reported_at=0, agent_version="1", slots=(),
        installs=device.inner.installs.installs(), loaded={},
    ).wanted  # fmt: skip
    return wanted


async def test_the_same_attempt_stays_out(outside: Outside) -> None:
    device = await directed(await with_failed_two(outside), 3)

    assert device.self_test.ran == []
    assert (said(device).state, said(device).code) == ("failed", "quarantined")
    assert said(device).generation == 3


async def test_a_higher_attempt_is_tried_and_proves_itself(outside: Outside) -> None:
    device = await with_failed_two(outside)
    outside.failing.clear()

    device = await directed(device, 3, attempt=2)

    assert device.versions() == (2, 2)
    assert (device.install.attempt, device.install.generation) == (2, 3)
    assert device.inner.installs.quarantines() == [], "what has proven itself is not kept out"


async def test_a_higher_attempt_that_fails_is_a_failure_of_the_newer_generation(
    outside: Outside,
) -> None:
    device = await with_failed_two(outside)
    outside.failing[TWO.sha256] = SelfTestMismatch("output 3 is off still")

    device = await directed(device, 3, attempt=2)

    assert device.self_test.ran == [2]
    assert (said(device).state, said(device).code) == ("failed", "self-test-mismatch")
    assert (said(device).generation, said(device).detail) == (3, "output 3 is off still")
    (kept,) = device.inner.installs.quarantines()
    assert (kept.attempt, kept.detail) == (2, "output 3 is off still")

    device = await directed(device, 4, attempt=2)
    assert device.self_test.ran == [], "it was asked for as often before"
    device = await directed(device, 5, attempt=3)
    assert device.self_test.ran == [2]


async def test_another_rollout_counts_its_own_attempts(outside: Outside) -> None:
    device = await directed(await with_failed_two(outside), 3, attempt=2)
    assert device.self_test.ran == [2]

    device = await directed(device, 4, attempt=1, rollout="another")
    assert (device.self_test.ran, device.install.code) == ([], "quarantined")
    device = await directed(device, 5, attempt=2, rollout="another")
    assert device.self_test.ran == [2], "people have asked for it, knowing that it is kept out"
    device = await directed(device, 6, attempt=2, rollout="another")
    assert (device.self_test.ran, device.install.code) == ([], "quarantined")


async def test_an_attempt_that_something_else_came_between_is_remembered(outside: Outside) -> None:
    device = (await with_failed_two(outside)).restarted()
    device.direct(3, THREE.assignment())
    await device.settle()

    device = await directed(device, 4)
    assert (device.install.code, device.versions()) == ("quarantined", (3, 3))

    outside.failing.clear()
    device = await directed(device, 5, attempt=2)
    assert device.versions() == (2, 2)


async def test_what_a_person_lifts_needs_no_higher_attempt(outside: Outside) -> None:
    device = (await with_failed_two(outside)).restarted()
    outside.failing.clear()

    await device.loop.lift(TWO.sha256)
    await device.settle()

    assert device.versions() == (2, 2)


async def test_power_at_any_step_of_another_attempt_ends_the_same(outside: Outside) -> None:
    failed = await with_failed_two(outside)
    steps = len((await directed(failed, 3, attempt=2)).power.steps)
    assert steps > 3

    for cut_at in range(steps):
        device = (await with_failed_two(outside)).restarted(Power(cut_at))
        device.direct(3, TWO.assignment(attempt=2))
        await device.settle()
        assert device.power.gone
        device = device.restarted()
        await device.settle()

        assert (said(device).code, said(device).generation) == ("self-test-mismatch", 3)
        assert [one.attempt for one in device.inner.installs.quarantines()] == [2]
        assert device.versions() == (1, 1)


def test_only_what_was_asked_for_again_and_has_proven_itself_is_redeemed() -> None:
    trial = Install(
        model="digits", slot="champion", version=2, generation=5, target="t", sha256="a" * 64,
        length=9, state=State.PROBATION, since=0.0, attempt=2,
    )  # fmt: skip
    committed = msgspec.structs.replace(trial, state=State.COMMITTED)
    failed = msgspec.structs.replace(
        trial, state=State.REVERTING, code="model-load", detail="no", attempt=1
    )
    kept = quarantine_of(failed, 7.0)

    assert is_quarantined(trial, failed)
    assert (kept.code, kept.detail, kept.at, kept.attempt) == ("model-load", "no", 7.0, 1)
    assert is_redeemed(trial, committed, kept)
    assert not is_redeemed(trial, committed, None)
    assert not is_redeemed(trial, committed, replace(kept, attempt=2)), "another slot of its own"
    assert not is_redeemed(None, committed, kept), "it has proven nothing now"
    assert not is_redeemed(trial, failed, kept)
