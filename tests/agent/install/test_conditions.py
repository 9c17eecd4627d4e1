"""What an install waits for: windows, power, a link that costs nothing. Waiting is no failure."""

from datetime import datetime

import pytest

from agent.errors import TransportError
from agent.install.gates import Battery
from agent.install.machine import State
from agent.install.report import report
from protos.documents import Conditions, SlotReport, Window
from tests.agent.install.conditions import (
    BERLIN,
    CHARGED,
    IN_A_WINDOW,
    OPENS,
    SATURDAY_NIGHT,
    UNMETERED,
)
from tests.agent.install.outside import STARTED, Outside, bundle, directive
from tests.agent.install.world import Device

ONE, TWO = (bundle(version=number) for number in (1, 2))
DAY = 86400.0


@pytest.fixture
def outside() -> Outside:
    world = Outside(zone=BERLIN)
    world.add(ONE, TWO)
    return world


async def wanting_two(outside: Outside, conditions: Conditions) -> Device:
    """A device that runs version 1, and whose directive wants version 2 under these conditions."""
    device = Device(outside)
    device.direct(1, ONE.assignment())
    await device.settle()
    device = device.restarted()
    device.clock.jumped = 0.0
    device.direct(2, TWO.assignment(conditions=conditions))
    return device


def waits(device: Device, code: str) -> bool:
    return device.install.version == 2 and device.install.code == code


async def until_it_waits(device: Device) -> None:
    """Runs the agent until it waits for its window, which a restart asks for anew."""
    async with device.running():
        await device.until(lambda: bool(device.self_test.ran) and waits(device, "outside-window"))


def told(device: Device) -> SlotReport:
    """What a report of this moment says of the install."""
    (said,) = report(
        device="d", counter=1, generation=2, reported_at=int(device.loop._bench.now()),
        agent_version="1", slots=(), installs=[device.install], loaded={},
    ).wanted  # fmt: skip
    return said


async def test_the_switch_waits_for_its_window_and_then_is_made(outside: Outside) -> None:
    device = await wanting_two(outside, IN_A_WINDOW)

    async with device.running():
        await device.until(lambda: waits(device, "outside-window"))
        said = told(device)
        await device.until(lambda: device.loop.is_settled)

    assert (said.state, said.code) == ("waiting", "outside-window")
    assert said.detail == "opens on Saturday 22:00 Europe/Berlin, in 3 d 22 h"
    assert device.self_test.ran == [2], "it was tested before, and once"
    assert device.versions() == (2, 2)
    assert device.install.since - OPENS < 60, "it is proven a moment after the window opened"
    assert (device.install.tries, device.install.resumptions) == (0, 0)
    assert device.inner.installs.quarantines() == []


async def test_days_of_waiting_are_told_and_written_once(outside: Outside) -> None:
    device = await wanting_two(outside, IN_A_WINDOW)
    async with device.running():
        await device.until(lambda: waits(device, "outside-window"))
        steps = len(device.power.steps)
        await device.until(lambda: device.clock.seconds > 3 * DAY)

        assert len(device.power.steps) == steps, "nothing is written while nothing changes"

    assert [one.name for one in device.changes if one.code] == ["install.deferred"]
    assert [one.detail for one in device.changes if one.code] == [
        "opens on Saturday 22:00 Europe/Berlin"
    ]


async def test_a_newer_directive_with_other_windows_changes_only_these(outside: Outside) -> None:
    device = await wanting_two(outside, IN_A_WINDOW)
    sunday = Conditions(windows=(Window(start_minute=60, minutes=60, days=(6,)),))
    async with device.running():
        await device.until(lambda: waits(device, "outside-window"))
        fetched, since = list(device.fetcher.fetched), device.install.since

        device.direct(3, TWO.assignment(conditions=sunday))
        await device.until(lambda: "Sunday" in device.install.detail)

        assert (device.install.generation, device.install.conditions) == (3, sunday)
        assert (device.install.state, device.install.since) == (State.WAITING, since)
        assert device.clock.seconds < 60, "it does not wait for its next look"
        assert (device.fetcher.fetched, device.self_test.ran) == (fetched, [2])

        device.direct(4, TWO.assignment())
        await device.until(lambda: device.loop.is_settled)

    assert device.clock.seconds < 600
    assert device.versions() == (2, 2)
    assert [one.detail[:15] for one in device.changes if one.code] == [
        "opens on Saturd", "opens on Sunday",
    ]  # fmt: skip


async def test_what_is_renewed_is_looked_at_again_whoever_was_woken_first(outside: Outside) -> None:
    device = await wanting_two(outside, IN_A_WINDOW)
    async with device.running():
        await device.until(lambda: waits(device, "outside-window"))
        device.inner.installs.save_directive(directive(3, TWO.assignment()), 3)
        device.loop._wake.set()  # and not the slot's loop, which has looked already
        await device.until(lambda: device.loop.is_settled)

    assert device.clock.seconds < 60
    assert device.versions() == (2, 2)


async def test_a_clock_that_is_put_right_is_noticed(outside: Outside) -> None:
    device = await wanting_two(outside, IN_A_WINDOW)
    async with device.running():
        await device.until(lambda: waits(device, "outside-window"))
        device.clock.jumped -= 365 * DAY  # a Monday
        await device.until(lambda: "opens on Saturday" in device.install.detail)
        before = device.clock.seconds
        device.clock.jumped += 365 * DAY + (OPENS - STARTED)
        await device.until(lambda: device.versions() == (2, 2))

    assert device.clock.seconds - before < 400


async def test_a_window_that_closes_before_the_switch_is_made_is_waited_for_again(
    outside: Outside,
) -> None:
    device = await wanting_two(outside, Conditions(windows=(Window(start_minute=0, minutes=1420),)))
    async with device.running():
        await device.until(lambda: device.install.state is State.CHECKING)
        outside.errors["prepare"] = [TransportError("no room") for _ in range(30)]
        await device.until(lambda: waits(device, "outside-window"))
        assert device.install.state is State.SWITCHING
        assert outside.errors["prepare"], "it closed in the middle"
        outside.errors.clear()
        await device.until(lambda: device.loop.is_settled)

    local = datetime.fromtimestamp(device.install.since, BERLIN)
    assert (local.hour, local.minute) == (0, 0)
    assert device.versions() == (2, 2)


async def test_going_back_waits_for_nothing(outside: Outside) -> None:
    device = await wanting_two(outside, Conditions(windows=(SATURDAY_NIGHT,), battery_percent=90))
    outside.bad_in_service.add(TWO.sha256)
    async with device.running():
        await device.until(lambda: device.install.state is State.PROBATION)
        outside.battery = Battery(1, on_mains=False)
        device.clock.jumped += DAY
        await device.until(lambda: device.loop.is_settled)

    assert (device.install.state, device.versions()) == (State.FAILED, (1, 1))


async def test_restarts_while_it_waits_burn_nothing_and_never_skip_the_self_test(
    outside: Outside,
) -> None:
    device = await wanting_two(outside, IN_A_WINDOW)
    for _ in range(6):
        await until_it_waits(device)
        assert device.self_test.ran == [2]
        assert (device.install.state, device.install.resumptions) == (State.WAITING, 0)
        assert device.install.conditions == IN_A_WINDOW
        device = device.restarted()

    await device.settle()

    assert device.versions() == (2, 2)


async def test_a_low_battery_puts_off_the_self_test_and_the_switch(outside: Outside) -> None:
    device = await wanting_two(outside, CHARGED)
    outside.battery = Battery(12.4, on_mains=False)
    async with device.running():
        await device.until(lambda: waits(device, "battery-low"))
        assert device.install.state is State.STAGED
        assert device.install.detail == "charged to 12 %; 50 % or mains is asked for"
        await device.until(lambda: device.clock.seconds > DAY)
        assert device.self_test.ran == []
        assert [one.name for one in device.changes if one.code] == ["install.deferred"]

        outside.battery = Battery(60, on_mains=False)
        await device.until(lambda: device.loop.is_settled)

    assert device.versions() == (2, 2)


async def test_a_battery_that_runs_down_while_the_window_is_waited_for_is_asked_again(
    outside: Outside,
) -> None:
    device = await wanting_two(outside, Conditions(windows=(SATURDAY_NIGHT,), battery_percent=50))
    async with device.running():
        await device.until(lambda: waits(device, "outside-window"))
        outside.battery = Battery(20, on_mains=False)
        await device.until(lambda: waits(device, "battery-low"))
        assert (device.install.state, device.versions()) == (State.WAITING, (1, 1))
        assert device.loop._bench.now() >= OPENS
        outside.battery = Battery(20, on_mains=True)
        await device.until(lambda: device.loop.is_settled)

    assert device.versions() == (2, 2)


async def test_a_device_whose_battery_runs_out_again_and_again_holds_it_against_nobody(
    outside: Outside,
) -> None:
    device = await wanting_two(outside, Conditions(windows=(SATURDAY_NIGHT,), battery_percent=50))
    await until_it_waits(device)
    outside.battery = Battery(3, on_mains=False)
    for _ in range(6):
        device = device.restarted()
        async with device.running():
            await device.until(lambda: device.clock.seconds > 600)  # noqa: B023 - waited for here
        assert (device.install.code, device.install.resumptions) == ("battery-low", 0)
        assert device.self_test.ran == []

    outside.battery = Battery(80, on_mains=False)
    device = device.restarted()
    await device.settle()

    assert device.versions() == (2, 2)


async def test_a_metered_link_puts_off_the_files_and_not_the_manifest(outside: Outside) -> None:
    device = await wanting_two(outside, UNMETERED)
    outside.metered = True
    async with device.running():
        await device.until(lambda: waits(device, "metered-link"))
        assert device.install.state is State.FETCHING
        assert device.fetcher.fetched == [TWO.sha256]
        outside.metered = False
        await device.until(lambda: device.loop.is_settled)

    assert device.versions() == (2, 2)


async def test_what_is_on_the_disk_already_needs_no_link(outside: Outside) -> None:
    device = await wanting_two(outside, UNMETERED)
    outside.metered = True
    device.blobs.complete.update(TWO.files)

    await device.settle()

    assert device.versions() == (2, 2)


async def test_what_answers_is_brought_back_over_any_link(outside: Outside) -> None:
    device = await wanting_two(outside, UNMETERED)
    await device.settle()
    outside.metered = True
    device = device.restarted()
    assert device.slot is not None
    assert device.slot.active is not None
    del device.blobs.complete[device.slot.active.model_sha256]

    await device.settle()

    assert device.deployments.answers() == 2
