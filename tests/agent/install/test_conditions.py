"""What an install waits for: windows, power, a link that costs nothing. Waiting is no failure."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from agent import errors
from agent.errors import AgentError, SelfTestSlow, TransportError
from agent.install.attempts import resume
from agent.install.change import change_of
from agent.install.gates import (
    Battery,
    BatteryLow,
    Circumstances,
    MeteredLink,
    OutsideWindow,
    battery_gate,
    detail_of,
    link_gate,
    plain,
    switch_gate,
    window_gate,
)
from agent.install.machine import COUNTED, RESUME, Event, State
from agent.install.outcome import outcome_of
from agent.install.progress import deferred
from agent.install.record import Install
from agent.install.report import report
from protos.documents import DEFERRALS, HELD, UNCONDITIONAL, Conditions, SlotReport, Window
from tests.agent.install.world import STARTED, Device, Outside, bundle, directive

ONE, TWO = (bundle(version=number) for number in (1, 2))
BERLIN = ZoneInfo("Europe/Berlin")
DAY = 86400.0
# The world's clock starts on a Tuesday at 22:13:20 UTC, 23:13:20 in Berlin.
SATURDAY_NIGHT = Window(start_minute=22 * 60, minutes=4 * 60, days=(5,))
IN_A_WINDOW = Conditions(windows=(SATURDAY_NIGHT,))
OPENS = datetime(2023, 11, 18, 22, tzinfo=BERLIN).timestamp()
CHARGED, UNMETERED = Conditions(battery_percent=50), Conditions(unmetered=True)


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


def install(state: State, conditions: Conditions = UNCONDITIONAL, code: str = "") -> Install:
    return Install(
        model="digits", slot="champion", version=2, generation=5, target="t", sha256="a" * 64,
        length=9, state=state, since=0.0, code=code, conditions=conditions,
    )  # fmt: skip


# --- Windows --------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("state", sorted({State.STAGED, State.FETCHING, State.WAITING, *COUNTED}))
def test_a_restart_of_what_waits_is_nobodys_doing(state: State) -> None:
    after = resume(deferred_by(OutsideWindow("opens on Friday", 9e9), state), 1.0)

    assert after.resumptions == 0
    moved = RESUME[state] is not state
    assert (after.code, after.not_before) == (("", 0.0) if moved else ("outside-window", 9e9))
    if moved and after.state in COUNTED:
        assert resume(after, 2.0).resumptions == 1, "the test itself is counted again"


def deferred_by(error: AgentError, state: State) -> Install:
    outcome = outcome_of(error)
    return deferred(install(state), outcome, outcome.until or 7.0)


# --- Power and links ------------------------------------------------------------------------------


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


# --- The gates themselves -------------------------------------------------------------------------

NOW = datetime(2023, 11, 14, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("battery", "passes"),
    [
        (None, True),
        (Battery(50, on_mains=False), True),
        (Battery(49.9, on_mains=False), False),
        (Battery(0, on_mains=True), True),
    ],
)
def test_a_battery_must_be_charged_or_on_mains(battery: Battery | None, *, passes: bool) -> None:
    found = Circumstances(NOW, battery)

    assert (battery_gate(install(State.STAGED, CHARGED), found) is None) == passes
    assert battery_gate(install(State.STAGED), found) is None


def test_the_window_speaks_before_the_battery() -> None:
    found = Circumstances(NOW, Battery(1, on_mains=False))
    both = install(State.WAITING, Conditions(windows=(SATURDAY_NIGHT,), battery_percent=50))

    reason = switch_gate(both, found)

    assert isinstance(reason, OutsideWindow)
    assert reason.opens_at == datetime(2023, 11, 18, 22, tzinfo=UTC).timestamp()
    assert outcome_of(reason).until == reason.opens_at


@pytest.mark.parametrize("state", State)
def test_only_what_does_not_run_yet_waits_for_another_link(state: State) -> None:
    runs = state in {State.PROBATION, State.COMMITTED, State.REVERTING}

    reason = link_gate(install(state, UNMETERED), Circumstances(NOW, metered=True))

    assert (reason is None) == runs
    assert link_gate(install(state, UNMETERED), plain(NOW)) is None
    assert link_gate(install(state), Circumstances(NOW, metered=True)) is None


def test_an_install_without_conditions_waits_at_no_gate() -> None:
    worst = Circumstances(NOW, Battery(0, on_mains=False), metered=True)

    for gate in (window_gate, battery_gate, link_gate, switch_gate):
        assert gate(install(State.WAITING), worst) is None


# --- Codes ----------------------------------------------------------------------------------------


def every_error(kind: type[AgentError]) -> list[type[AgentError]]:
    return [kind, *(one for below in kind.__subclasses__() for one in every_error(below))]


def test_the_codes_of_deferrals_are_those_that_the_device_gives() -> None:
    held = {kind.code for kind in (OutsideWindow, BatteryLow, MeteredLink)}
    temporary = {kind.code for kind in every_error(errors.Temporary)}
    answers_requests = {errors.Temporary.code, errors.Overloaded.code}

    assert held == HELD
    assert (temporary - answers_requests) | {"expired-metadata", "too-many-calls"} == DEFERRALS
    refused = errors.Refused("too-many-calls", "busy", "wait")
    found = [kind("x") for kind in every_error(errors.Temporary)]
    for error in (refused, errors.ExpiredMetadata("old"), *found):
        assert outcome_of(error).event is Event.DEFER


def test_what_is_waited_for_is_told_when_it_changes() -> None:
    waiting = install(State.WAITING)
    saturday, sunday = (
        deferred_by(OutsideWindow(f"opens on {day}", 9e9), State.WAITING)
        for day in ("Saturday", "Sunday")
    )
    gone = deferred_by(TransportError("no answer"), State.WAITING)
    gone_again = deferred_by(TransportError("no route"), State.WAITING)

    assert change_of(saturday, saturday) is None
    assert change_of(gone, gone_again) is None
    for before, after in ((waiting, saturday), (saturday, sunday), (saturday, gone)):
        change = change_of(before, after)
        assert change is not None
        assert (change.name, change.code, change.detail) == (
            "install.deferred", after.code, after.detail,
        )  # fmt: skip


def test_how_long_it_waits_is_of_the_moment() -> None:
    waiting = deferred_by(OutsideWindow("opens on Saturday", 7200.0), State.WAITING)
    slow = deferred_by(SelfTestSlow("9 ms"), State.SELF_TEST)

    assert detail_of(waiting, 0.0) == "opens on Saturday, in 2 h 0 min"
    assert detail_of(waiting, 3600.0) == "opens on Saturday, in 1 h 0 min"
    assert detail_of(waiting, 7200.0) == "opens on Saturday"
    assert detail_of(slow, 0.0) == "9 ms"
