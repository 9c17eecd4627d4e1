from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from controller.fleet.device import Device, SlotState
from controller.registry import version as registry
from controller.rollout.account import (
    ON_PURPOSE,
    Question,
    changes_at,
    spent,
    standing,
    tally,
    timed,
)
from controller.rollout.facts import Release, runs
from controller.rollout.policy import Stage
from controller.rollout.reversal import is_back, reversal
from controller.rollout.rollout import Member, Rollout, State, Wanted
from controller.rollout.standing import Outcome, Standing
from protos.documents import DEFERRALS
from protos.manifest import Needs
from tests.controller.rollout.world import LOADED, START, device

STAGE = Stage(name="all", percent=100, soak_seconds=60, deadline_seconds=1000)
RELEASES = {
    ("digits", number): Release(
        "digits",
        number,
        registry.State.PUBLISHED,
        f"{number:064x}",
        1,
        Needs(),
        model_sha256=LOADED,
    )
    for number in (1, 2)
}
MEMBER = Member("r", "d1", 0, START, 0.0, before=1)
QUESTION = Question(MEMBER, STAGE, RELEASES["digits", 2], 1, 600.0)
ROLLOUT = Rollout("r", "digits", 2, "all", State.ROLLING_BACK, START, "ada")
ROW = Wanted("d1", "digits", "champion", 2, "r", START)
WAITS = sorted(ON_PURPOSE)[0]


def linked(since: float = START) -> Device:
    return replace(device("d1", {}, {}), connected_since=since, last_seen=since)


def slot(version: int, state: str, *, running: bool = False, code: str = "") -> SlotState:
    digest, loaded = f"{version:064x}", LOADED if running else ""
    return SlotState(
        "d1", "digits", "champion", version, running, state, digest, loaded, 1, 1, 1, START, code
    )


RUNS_IT = slot(2, "committed", running=True)
STARTS = changed(RUNS_IT, model_sha256="", code="not-ready")
"""What a device says right after a restart."""


def stands(one: Device, now: float, *slots: SlotState, member: Member = MEMBER) -> Standing:
    return standing(one, slots, replace(QUESTION, member=member), now)


def test_a_deadline_is_in_time_online() -> None:
    away = replace(linked(), connected=False, connected_since=0.0, online_seconds=900.0)
    back = replace(away, connected=True, connected_since=START + 9000, last_seen=START + 9000)

    assert stands(linked(), START + 1000).outcome is Outcome.WAITING
    late = stands(linked(), START + 1001)
    assert (late.outcome, late.code) == (Outcome.UNREACHABLE, "deadline")
    assert stands(back, START + 9100).outcome is Outcome.WAITING
    assert stands(back, START + 9101).outcome is Outcome.UNREACHABLE


def test_who_was_told_and_is_silent_is_unreachable_and_who_was_not_is_away() -> None:
    gone = replace(linked(), connected=False, connected_since=0.0)
    told = replace(gone, online_seconds=5.0, last_seen=START + 5)

    assert stands(gone, START + 1e6).outcome is Outcome.AWAY
    waits = stands(told, START + 605)
    assert (waits.outcome, waits.code) == (Outcome.WAITING, "offline")
    silent = stands(told, START + 606)
    assert (silent.outcome, silent.code) == (Outcome.UNREACHABLE, "silent")


@pytest.mark.parametrize("code", sorted(DEFERRALS - ON_PURPOSE))
def test_whatever_else_puts_an_install_off_uses_its_time_up(code: str) -> None:
    one, put_off = linked(), slot(2, "fetching", code=code)

    assert stands(one, START + 1000, put_off).outcome is Outcome.WAITING
    late = stands(one, START + 1001, put_off)
    assert (late.outcome, late.code) == (Outcome.UNREACHABLE, code)


def test_only_conditions_and_a_busy_server_are_waited_for_on_purpose() -> None:
    assert {"outside-window", "battery-low", "metered-link", "too-many-calls"} == ON_PURPOSE
    assert ON_PURPOSE < DEFERRALS  # each is a code that devices have


@pytest.mark.parametrize("code", sorted(ON_PURPOSE))
def test_a_wait_on_purpose_takes_nothing_from_the_deadline(code: str) -> None:
    one, now = linked(), START + 400
    waits = stands(one, now, slot(2, "waiting", code=code))
    assert waits.outcome is Outcome.DEFERRED
    member = timed(MEMBER, one, waits.outcome, now)
    assert timed(member, one, waits.outcome, now + 50) == member

    now += 100_000  # the window opens
    busy = stands(one, now, slot(2, "switching"), member=member)
    assert busy.outcome is Outcome.WAITING
    after = timed(member, one, busy.outcome, now)
    assert (after.deferred_at, spent(after, one, now)) == (None, 400)
    assert stands(one, now + 600, slot(2, "switching"), member=after).outcome is Outcome.WAITING
    late = stands(one, now + 601, slot(2, "switching"), member=after)
    assert late.outcome is Outcome.UNREACHABLE


def test_a_link_that_goes_ends_no_wait() -> None:
    one, now = linked(), START + 400
    member = timed(MEMBER, one, Outcome.DEFERRED, now)
    gone = replace(one, connected=False, connected_since=0.0, online_seconds=400.0, last_seen=now)

    assert timed(member, gone, Outcome.WAITING, now + 100) == member


def test_only_what_runs_and_is_committed_is_proven() -> None:
    assert stands(linked(), START, slot(2, "committed")).outcome is Outcome.WAITING
    soaks = stands(linked(), START, RUNS_IT)
    assert (soaks.outcome, soaks.soaks_until) == (Outcome.OK, START + 60)
    done = stands(linked(), START, changed(RUNS_IT, soaked=60))
    assert (done.outcome, done.soaks_until) == (Outcome.OK, 0)


# --- Soaks ----------------------------------------------------------------------------------------

CLOCKS = st.floats(-1e9, 1e9).map(lambda seconds: START + seconds)
BY_WHOM = st.sampled_from(
    [
        RUNS_IT,
        changed(RUNS_IT, running=False),
        changed(RUNS_IT, state="probation"),
        changed(RUNS_IT, manifest_sha256="f" * 64),
        changed(RUNS_IT, version=1),
        changed(RUNS_IT, model_sha256="f" * 64),
        STARTS,
    ]
)


@given(CLOCKS, CLOCKS, CLOCKS, st.booleans(), st.integers(0, 120), BY_WHOM)
def test_no_clock_ends_a_soak_or_lengthens_it(
    now: float, proven_at: float, heard: float, connected: bool, soaked: int, said: SlotState
) -> None:
    one = replace(linked(heard), connected=connected)
    member = replace(MEMBER, proven_at=proven_at, released_at=heard)

    found = stands(one, now, changed(said, soaked=soaked), member=member)

    done = found.outcome is Outcome.OK and not found.soaks_until
    assert done is (said is RUNS_IT and soaked >= STAGE.soak_seconds)


def test_a_stage_that_asks_for_no_soak_has_none() -> None:
    at_once = replace(QUESTION, stage=STAGE.model_copy(update={"soak_seconds": 0.0}))

    found = standing(linked(), [RUNS_IT], at_once, START + 1e6)

    assert (found.outcome, found.soaks_until) == (Outcome.OK, 0)


def test_who_never_comes_to_the_end_of_its_soak_is_given_up_in_time_online() -> None:
    member = replace(MEMBER, proven_at=START + 10)
    gone = replace(linked(), connected=False, connected_since=0.0, online_seconds=900.0)
    back = replace(gone, connected=True, connected_since=START + 9000, last_seen=START + 9000)

    waits = stands(linked(), START + 1060, RUNS_IT, member=member)
    assert (waits.outcome, waits.soaks_until) == (Outcome.OK, START + 70)
    asked = replace(QUESTION, member=member)
    assert changes_at(linked(), waits, asked, START + 1001) == START + 1060
    late = stands(linked(), START + 1061, RUNS_IT, member=member)
    assert (late.outcome, late.code, late.soaks_until) == (Outcome.UNREACHABLE, "soak", 0)
    assert "60 s at a stretch" in late.detail
    assert stands(back, START + 9160, RUNS_IT, member=member).outcome is Outcome.OK
    assert stands(back, START + 9161, RUNS_IT, member=member).code == "soak"
    comes_back = stands(linked(), START + 1061, changed(RUNS_IT, soaked=60), member=member)
    assert comes_back.outcome is Outcome.OK


def test_who_falls_silent_while_it_soaks_is_unreachable_as_any_other() -> None:
    told = replace(linked(), connected=False, connected_since=0.0, online_seconds=5.0)

    assert stands(told, START + 600, RUNS_IT).soaks_until > 0
    assert changes_at(told, stands(told, START, RUNS_IT), QUESTION, START) == START + 600
    silent = stands(told, START + 601, RUNS_IT)
    assert (silent.outcome, silent.code, silent.soaks_until) == (Outcome.UNREACHABLE, "silent", 0)
    assert stands(told, START + 1e6, changed(RUNS_IT, soaked=60)).outcome is Outcome.OK


# --- Restarts -------------------------------------------------------------------------------------

PROVEN = replace(MEMBER, proven_at=START + 10)
SOAKED = changed(STARTS, soaked=60)


def test_a_committed_version_that_is_not_loaded_proves_nothing_and_uses_time_up() -> None:
    waits = stands(linked(), START + 1000, STARTS)
    assert (waits.outcome, waits.code) == (Outcome.WAITING, "not-ready")
    late = stands(linked(), START + 1001, STARTS)
    assert (late.outcome, late.code) == (Outcome.UNREACHABLE, "not-ready")


def test_who_restarts_in_its_soak_has_the_time_that_it_would_have_if_it_ran() -> None:
    assert stands(linked(), START + 1060, STARTS, member=PROVEN).outcome is Outcome.WAITING
    assert stands(linked(), START + 1061, STARTS, member=PROVEN).outcome is Outcome.UNREACHABLE


def test_a_restart_long_after_the_soak_is_waited_for_while_it_loads() -> None:
    back = replace(linked(START + 1e6), online_seconds=9e5)

    assert stands(back, START + 1e6 + 300, SOAKED).outcome is Outcome.UNREACHABLE, "never proven"
    waits = stands(back, START + 1e6 + 300, SOAKED, member=PROVEN)
    assert (waits.outcome, waits.code) == (Outcome.WAITING, "not-ready")
    asked = replace(QUESTION, member=PROVEN)
    assert changes_at(back, waits, asked, START + 1e6 + 100) == START + 1e6 + 300
    stuck = stands(back, START + 1e6 + 301, SOAKED, member=PROVEN)
    assert (stuck.outcome, stuck.code) == (Outcome.UNREACHABLE, "not-ready")


def test_who_loses_power_while_it_loads_is_neither_good_nor_bad() -> None:
    gone = replace(linked(), connected=False, connected_since=0.0, online_seconds=9e5)

    waits = stands(gone, START + 600, SOAKED, member=PROVEN)
    assert (waits.outcome, waits.code) == (Outcome.WAITING, "offline")
    assert stands(gone, START + 601, SOAKED, member=PROVEN).outcome is Outcome.AWAY


def test_a_restart_takes_from_nobody_what_it_is_to_fall_back_to() -> None:
    assert [one.version for one in runs("digits", [SOAKED], RELEASES)] == [2]
    other = changed(SOAKED, model_sha256="f" * 64)
    assert runs("digits", [other], RELEASES) == ()


def test_who_ran_it_before_and_was_not_told_is_away() -> None:
    gone = replace(linked(), connected=False, connected_since=0.0)

    assert stands(gone, START + 1e6, RUNS_IT).outcome is Outcome.AWAY
    assert stands(gone, START + 1e6, changed(RUNS_IT, soaked=60)).outcome is Outcome.OK


@given(st.lists(st.sampled_from(Outcome).map(lambda outcome: Standing("d", outcome)), max_size=30))
def test_a_tally_counts_everybody_once_but_those_that_nobody_waits_for(
    standings: list[Standing],
) -> None:
    found = tally(standings)
    left = {Outcome.REVERTED, Outcome.KEPT}

    assert found.size == sum(one.outcome not in left for one in standings)
    assert found.decided <= found.told <= found.size


@given(
    st.booleans(),
    st.floats(0, 5000),
    st.floats(0, 5000),
    st.sampled_from(["", "fetching", "committed", "starting", "failed", WAITS]),
    st.sampled_from([0, 59, 60]),
    st.floats(0.01, 0.99),
)
def test_time_alone_changes_nobody_before_it_was_foretold(
    connected: bool, online: float, later: float, state: str, soaked: int, share: float
) -> None:
    one = replace(
        linked(),
        connected=connected,
        connected_since=START if connected else 0.0,
        online_seconds=online,
    )
    code = state if state in ON_PURPOSE else ""
    tried = slot(2, state or "idle", running=state == "committed", code=code)
    said = (changed(STARTS if state == "starting" else tried, soaked=soaked),) if state else ()
    now = START + later
    known = replace(MEMBER, proven_at=START if state == "starting" else 0.0)
    before = standing(one, said, replace(QUESTION, member=known), now)
    member = known if before.outcome is not Outcome.OK else replace(known, proven_at=now)
    asked = replace(QUESTION, member=member)
    at = min(changes_at(one, before, asked, now), now + 1e6)

    assert at >= now
    between = standing(one, said, asked, now + (at - now) * share)
    assert (between.outcome, between.soaks_until) == (before.outcome, before.soaks_until)


# --- The way back ---------------------------------------------------------------------------------


def undone(member: Member, *slots: SlotState, without: int = 0) -> tuple[int, int, int]:
    where = ("d1", "digits", "champion")
    releases = {key: one for key, one in RELEASES.items() if key[1] != without}
    found = reversal(ROLLOUT, [member], {where: ROW}.get, lambda _: slots, releases)
    return len(found.restore), len(found.remove), len(found.left)


def test_a_device_goes_back_to_what_it_ran_or_to_nothing_or_keeps_what_it_has() -> None:
    nothing = replace(MEMBER, before=0)

    assert undone(MEMBER, slot(2, "committed", running=True)) == (1, 0, 0)
    assert undone(nothing) == (0, 1, 0)
    assert undone(nothing, slot(2, "committed", running=True)) == (0, 0, 1)


def test_what_was_recalled_meanwhile_is_nowhere_to_go_back_to() -> None:
    assert undone(MEMBER, slot(2, "committed", running=True), without=1) == (0, 0, 1)
    assert undone(MEMBER, without=1) == (0, 1, 0)


def test_a_place_that_another_rollout_has_by_now_is_left_alone() -> None:
    where = ("d1", "digits", "champion")
    found = reversal(
        ROLLOUT, [MEMBER], {where: replace(ROW, rollout="r2")}.get, lambda _: (), RELEASES
    )

    assert (found.restore, found.remove, found.members) == ((), (), ())


@pytest.mark.parametrize(
    ("slots", "before", "expected"),
    [
        ((slot(1, "committed", running=True),), 1, True),
        ((changed(slot(1, "committed", running=True), model_sha256=""),), 1, False),
        ((slot(2, "committed", running=True),), 1, False),
        ((), 1, False),
        ((), 0, True),
        ((slot(2, "committed", running=True),), 0, False),
    ],
)
def test_who_is_back_has_proven_it(
    slots: tuple[SlotState, ...], before: int, expected: bool
) -> None:
    found = is_back(replace(MEMBER, before=before), ROLLOUT, slots, RELEASES)

    assert found is expected
