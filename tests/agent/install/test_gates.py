"""The gates of windows, power and links, and what is told of who waits at one."""

from datetime import UTC, datetime

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
from protos.documents import DEFERRALS, HELD, UNCONDITIONAL, Conditions
from tests.agent.install.conditions import CHARGED, SATURDAY_NIGHT, UNMETERED


def install(state: State, conditions: Conditions = UNCONDITIONAL, code: str = "") -> Install:
    return Install(
        model="digits", slot="champion", version=2, generation=5, target="t", sha256="a" * 64,
        length=9, state=state, since=0.0, code=code, conditions=conditions,
    )  # fmt: skip


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


def every_error(kind: type[AgentError]) -> list[type[AgentError]]:
    """Those that an install may meet: training has its own, which may be loaded or not."""
    below = [one for one in kind.__subclasses__() if "federated" not in one.__module__]
    return [kind, *(one for found in below for one in every_error(found))]


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
