"""A person lets a version be tried again that failed here, beside a running agent or without one."""

import asyncio
from pathlib import Path

import pytest

from agent.errors import DiskFull, NotInQuarantine, SelfTestMismatch, StoreError
from agent.install.lifting.actions import ask
from agent.install.lifting.loop import LiftLoop
from agent.install.machine import State
from agent.store.lift_requests import LiftRequests
from tests.agent.install.outside import Outside, VirtualClock, bundle
from tests.agent.install.world import Device

ONE, TWO = (bundle(version=number) for number in (1, 2))


@pytest.fixture
def requests(tmp_path: Path) -> LiftRequests:
    return LiftRequests(tmp_path)


@pytest.fixture
def outside() -> Outside:
    world = Outside()
    world.add(ONE, TWO)
    world.failing[TWO.sha256] = SelfTestMismatch("output 3 is off")
    return world


async def with_failed_two(outside: Outside) -> Device:
    """A device on which version 1 runs and version 2 has failed."""
    device = Device(outside)
    device.direct(1, ONE.assignment())
    await device.settle()
    device = device.restarted()
    device.direct(2, TWO.assignment())
    await device.settle()
    assert device.install.state is State.FAILED
    return device.restarted()


def reverting(device: Device) -> bool:
    return any(one.state is State.REVERTING for one in device.inner.installs.installs())


async def test_a_version_that_is_lifted_beside_a_running_agent_is_tried_again_at_its_next_look(
    outside: Outside, requests: LiftRequests
) -> None:
    device = await with_failed_two(outside)
    lifts = LiftLoop(requests, device.loop.lift, device.clock)
    async with device.running():
        await device.until(lambda: device.loop.is_settled)
        outside.failing.clear()
        (kept,) = ask(device.inner.installs, requests, "digits", 2)
        assert (kept.code, kept.detail) == ("self-test-mismatch", "output 3 is off")

        await lifts.look()
        await device.until(lambda: device.loop.is_settled)

    assert (device.install.state, device.versions()) == (State.COMMITTED, (2, 2))
    assert ("quarantine.lifted", 2) in [(one.name, one.version) for one in device.changes]
    assert requests.asked() == []


async def test_a_version_that_is_lifted_while_no_agent_runs_is_tried_again_when_one_does(
    outside: Outside, requests: LiftRequests
) -> None:
    device = await with_failed_two(outside)
    outside.failing.clear()
    ask(device.inner.installs, requests, "digits", 2)

    await LiftLoop(requests, device.loop.lift, device.clock).look()
    await device.settle()

    assert device.versions() == (2, 2)


async def test_a_version_that_something_else_replaced_can_be_lifted_too(
    outside: Outside, requests: LiftRequests
) -> None:
    device = await with_failed_two(outside)
    device.direct(3, ONE.assignment())
    await device.settle()

    ask(device.inner.installs, requests, "digits", 2)
    await LiftLoop(requests, device.loop.lift, device.clock).look()

    assert device.inner.installs.quarantined(TWO.sha256) is None


async def test_what_is_lifted_while_its_slot_is_put_back_stays_lifted(outside: Outside) -> None:
    device = Device(outside)
    device.direct(1, TWO.assignment())
    async with device.running():
        await device.until(lambda: reverting(device))
        await device.loop.lift(TWO.sha256)
        outside.failing.clear()
        await device.until(lambda: device.loop.is_settled)

    assert device.versions() == (2, 2)


async def test_a_version_that_is_not_kept_out_is_not_lifted(
    outside: Outside, requests: LiftRequests
) -> None:
    device = await with_failed_two(outside)

    for model, version in (("digits", 1), ("other", 2)):
        with pytest.raises(NotInQuarantine, match=f"{model}/{version} is not in quarantine"):
            ask(device.inner.installs, requests, model, version)

    assert requests.asked() == []


async def test_a_request_that_can_not_be_done_stays_and_the_loop_goes_on(
    requests: LiftRequests,
) -> None:
    requests.ask("a" * 64)
    clock, lifted = VirtualClock(), asyncio.Event()
    errors = [DiskFull("no room"), ArithmeticError("a bug")]

    async def lift(_: str) -> None:
        if errors:
            raise errors.pop()
        lifted.set()

    task = asyncio.create_task(LiftLoop(requests, lift, clock).run())
    async with asyncio.timeout(10):
        while not lifted.is_set():
            clock.pass_on()
            await asyncio.sleep(0.001)
        while requests.asked():  # noqa: ASYNC110 - it goes on a thread
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])


def test_other_files_of_the_folder_are_no_requests(tmp_path: Path, requests: LiftRequests) -> None:
    for name in ("agent.sqlite", "lift-", "lift-me", f"lift-.{'a' * 64}.part", f"lift-{'A' * 64}"):
        (tmp_path / name).touch()
    requests.ask("b" * 64)
    requests.ask("b" * 64)

    assert requests.asked() == ["b" * 64]


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    requests = LiftRequests(tmp_path / "gone")

    with pytest.raises(StoreError, match="gone"):
        requests.ask("b" * 64)
    with pytest.raises(StoreError, match="gone"):
        requests.asked()
    requests.done("b" * 64)
