"""A device says that a version has answered long enough once it has, by its monotonic clock alone."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.errors import DiskFull, ModelLoadFailed, TransportError
from agent.install.edit import proven, switched
from agent.install.fallback import bound
from agent.install.machine import State
from agent.install.record import Deployed, Install, Slot
from agent.install.report import report
from agent.install.soak import Answering, Soaks, answering, soaks
from agent.store.records import from_text
from agent.trust.directive import check_newer
from protos.documents import MAX_SOAK_SECONDS, Assignment, Directive, SlotReport, canonical, decode
from protos.errors import DocumentError
from tests.agent.install.outside import KEY, Bundle, Outside, bundle
from tests.agent.install.world import Device, recalling

ONE, TWO = (bundle(version=number) for number in (1, 2))
DAY = 86400.0


def deployed(of: Bundle) -> Deployed:
    return Deployed("digits", of.manifest.version, of.sha256, "c" * 64, 1, 2)


A, B = deployed(ONE), deployed(TWO)
RUNS_A = Slot(*KEY, A, A)


def asking(*assignments: Assignment) -> Directive:
    return Directive(device="dev-1", generation=1, issued_at=0, assignments=assignments)


# --- What is decided ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slot", "assignment", "count", "now", "reached", "again_at"),
    [
        (RUNS_A, ONE.assignment(soak=60), Answering(A, 10.0), 69.9, 0, 70.0),
        (RUNS_A, ONE.assignment(soak=60), Answering(A, 10.0), 70.0, 60, math.inf),
        (RUNS_A, ONE.assignment(soak=60), Answering(A, 10.0), 9e9, 60, math.inf),
        (RUNS_A, ONE.assignment(), Answering(A, 10.0), 9e9, 0, math.inf),
        (RUNS_A, TWO.assignment(soak=60), Answering(A, 10.0), 9e9, 0, math.inf),
        (RUNS_A, ONE.assignment("challenger", soak=60), Answering(A, 10.0), 9e9, 0, math.inf),
        (RUNS_A, ONE.assignment(soak=60), None, 9e9, 0, math.inf),
        (RUNS_A, ONE.assignment(soak=60), Answering(B, 10.0), 9e9, 0, math.inf),
        (replace(RUNS_A, soaked=60), ONE.assignment(soak=60), Answering(A, 0.0), 5, 0, math.inf),
        (replace(RUNS_A, soaked=60), ONE.assignment(soak=30), Answering(A, 0.0), 5, 0, math.inf),
        (replace(RUNS_A, soaked=60), ONE.assignment(soak=90), Answering(A, 0.0), 5, 0, 90.0),
        (replace(RUNS_A, soaked=60), ONE.assignment(soak=90), Answering(A, 0.0), 90, 90, math.inf),
        # Version 2 is on probation over it, or it has gone and is to be loaded again.
        (Slot(*KEY, B, A), ONE.assignment(soak=60), Answering(A, 10.0), 9e9, 0, math.inf),
        (Slot(*KEY, B, A), TWO.assignment(soak=60), Answering(B, 10.0), 9e9, 0, math.inf),
        (Slot(*KEY, A), ONE.assignment(soak=60), Answering(A, 10.0), 9e9, 0, math.inf),
    ],
)
def test_only_what_is_asked_about_proven_and_answering_soaks(
    slot: Slot,
    assignment: Assignment,
    count: Answering | None,
    now: float,
    reached: int,
    again_at: float,
) -> None:
    counts = {} if count is None else {KEY: count}

    found = soaks(asking(assignment), [slot], counts, now)

    expected = (replace(slot, soaked=reached),) if reached else ()
    assert found == Soaks(expected, again_at)
    assert soaks(None, [slot], counts, now) == Soaks()


def test_a_count_goes_on_for_the_same_version_and_begins_again_for_any_other() -> None:
    first = answering(None, A, 5.0)

    assert first == Answering(A, 5.0)
    assert answering(first, A, 99.0) == first
    assert answering(first, B, 99.0) == Answering(B, 99.0)
    assert answering(first, None, 99.0) is None


def test_what_was_reached_is_of_the_version_that_is_proven() -> None:
    install = Install(
        model="digits", slot="champion", version=2, generation=1, target="t", sha256=TWO.sha256,
        length=9, state=State.SWITCHING, since=0.0,
    )  # fmt: skip
    soaked = replace(RUNS_A, soaked=60)

    (tried,) = switched(soaked, install, B, 0.0).slots
    assert tried.soaked == 60, "what it falls back to has soaked"
    assert told_of(tried).soaked == 0, "and what answers has not"
    (after,) = proven(tried, replace(install, state=State.PROBATION), 0.0).slots
    assert after == Slot(*KEY, B, B)
    assert bound(tried, recalling(TWO.sha256)) == soaked
    assert bound(soaked, recalling(ONE.sha256)) == Slot(*KEY)


def told_of(slot: Slot) -> SlotReport:
    (said,) = report(
        device="d", counter=1, generation=2, reported_at=0, agent_version="1", slots=[slot],
        installs=(), loaded={KEY: "c" * 64},
    ).running  # fmt: skip
    return said


def test_a_report_says_what_was_reached() -> None:
    assert told_of(replace(RUNS_A, soaked=60)).soaked == 60


@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "wait", "restart", "switch"]), st.integers(1, 100)),
        max_size=20,
    )
)
def test_nothing_is_reached_but_by_answering_for_so_long_in_one_run(
    story: list[tuple[str, int]],
) -> None:
    now, slot, asked, runs = 0.0, RUNS_A, 0, 0.0
    count = answering(None, A, now)
    longest = 0.0  # run so far of what is proven
    for what, number in story:
        match what:
            case "ask":
                asked = number
            case "wait":
                now, runs = now + number, runs + number
            case "restart":
                count, runs = answering(None, slot.committed, now), 0.0
            case _:
                other = B if slot.committed == A else A
                slot, runs, longest = Slot(*KEY, other, other), 0.0, 0.0
                count = answering(count, other, now)
        longest = max(longest, runs)
        assert count is not None
        of = ONE if slot.committed == A else TWO
        found = soaks(asking(of.assignment(soak=asked)), [slot], {KEY: count}, now)
        slot = found.reached[0] if found.reached else slot

        assert slot.soaked <= longest
        assert (slot.soaked >= asked) is (found.again_at == math.inf)
        assert found.again_at == math.inf or found.again_at == now - runs + asked


# --- On a device ----------------------------------------------------------------------------------


@pytest.fixture
def outside() -> Outside:
    world = Outside()
    world.add(ONE, TWO)
    return world


def soaked(device: Device) -> int:
    return 0 if device.slot is None else device.slot.soaked


async def until_proven(device: Device) -> float:
    """Runs until version 1 is committed; returns since when."""
    await device.until(lambda: device.versions() == (1, 1))
    return device.clock.seconds


async def test_the_soak_begins_at_the_commit_and_is_told_once(outside: Outside) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=600))
    async with device.running():
        since = await until_proven(device)
        await device.until(lambda: soaked(device) > 0)
        assert device.clock.seconds - since == pytest.approx(600, abs=0.01)
        await device.spin()

        device.direct(2, ONE.assignment(soak=600, rollout="later"))
        device.direct(3, ONE.assignment(soak=300))
        await device.spin()

    assert soaked(device) == 600
    told = [one for one in device.changes if one.name == "slot.soaked"]
    assert [(one.model, one.slot, one.version) for one in told] == [(*KEY, 1)]


async def test_a_directive_that_asks_for_the_same_does_not_begin_again(outside: Outside) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=600))
    async with device.running():
        since = await until_proven(device)
        for generation in range(2, 12):
            at = device.clock.seconds + 50
            await passing(device, at)
            device.direct(generation, ONE.assignment(soak=600, rollout=f"r{generation}"))
        await device.until(lambda: soaked(device) > 0)

    assert device.clock.seconds - since == pytest.approx(600, abs=0.01)


async def passing(device: Device, at: float) -> None:
    """Time passes until then."""
    waiting = asyncio.ensure_future(device.clock.sleep(at - device.clock.seconds))
    await device.until(waiting.done)


async def test_who_asks_for_longer_is_answered_by_what_ran_already(outside: Outside) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=60))
    async with device.running():
        since = await until_proven(device)
        await device.until(lambda: soaked(device) == 60)
        await passing(device, since + 1000)

        device.direct(2, ONE.assignment(soak=900))
        await device.spin()
        assert soaked(device) == 900, "it ran for so long already"
        device.direct(3, ONE.assignment(soak=1500))
        await device.until(lambda: soaked(device) == 1500)

    assert device.clock.seconds - since == pytest.approx(1500, abs=0.01)


async def test_a_restart_begins_again_and_forgets_nothing_that_was_reached(
    outside: Outside,
) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=600))
    async with device.running():
        since = await until_proven(device)
        await passing(device, since + 590)
    for _ in range(5):
        device = device.restarted()
        async with device.running():
            await passing(device, device.clock.seconds + 590)
        assert soaked(device) == 0, "a device that restarts every few minutes never soaks"

    device = device.restarted()
    since = device.clock.seconds
    async with device.running():
        await device.until(lambda: soaked(device) == 600)
    assert device.clock.seconds - since == pytest.approx(600, abs=1)
    device = device.restarted()
    await device.settle()
    assert soaked(device) == 600
    assert device.changes == [], "it was told before"


@pytest.mark.parametrize("jump", [-400 * DAY, -3600.0, 3600.0, 400 * DAY])
async def test_a_clock_that_is_set_changes_no_soak(outside: Outside, jump: float) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=600))
    async with device.running():
        since = await until_proven(device)
        await passing(device, since + 300)
        device.clock.jumped += jump
        device.loop.wake()
        await device.spin()
        assert soaked(device) == 0
        await device.until(lambda: soaked(device) == 600)

    assert device.clock.seconds - since == pytest.approx(600, abs=0.01)


async def test_what_is_tried_in_between_ends_the_count(outside: Outside) -> None:
    outside.bad_in_service.add(TWO.sha256)
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=600))
    async with device.running():
        since = await until_proven(device)
        await passing(device, since + 300)
        device.direct(2, TWO.assignment(soak=600))
        await device.until(lambda: device.install.state is State.FAILED)
        assert device.versions() == (1, 1)
        back = device.clock.seconds
        device.direct(3, ONE.assignment(soak=600))
        await device.until(lambda: soaked(device) == 600)

    assert device.clock.seconds - back == pytest.approx(600, abs=5)
    assert device.clock.seconds - since > 850


async def test_another_version_soaks_for_itself(outside: Outside) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=60))
    async with device.running():
        await device.until(lambda: soaked(device) == 60)
        device.direct(2, TWO.assignment(soak=60))
        await device.until(lambda: device.versions() == (2, 2))
        since = device.clock.seconds
        assert soaked(device) == 0
        await device.until(lambda: soaked(device) == 60)

    assert device.clock.seconds - since == pytest.approx(60, abs=0.01)


async def test_what_was_recalled_or_does_not_load_soaks_no_more(outside: Outside) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=600))
    async with device.running():
        await until_proven(device)
    outside.errors["prepare"] = [ModelLoadFailed("not now"), ModelLoadFailed("not now")]
    device = device.restarted()
    async with device.running():
        await device.until(lambda: device.deployments.answers() == 1)
        loaded = device.clock.seconds
        await device.until(lambda: soaked(device) == 600)
        assert device.clock.seconds - loaded == pytest.approx(600, abs=0.01)

        await device.enforce(recalling(ONE.sha256))
        await device.spin()
        device.direct(2, ONE.assignment(soak=700))
        await passing(device, device.clock.seconds + 10 * DAY)
    assert soaked(device) == 0


async def test_what_answers_no_more_soaks_no_more_whatever_the_disk_still_says(
    outside: Outside,
) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=600))

    def full(*_: str) -> None:
        raise DiskFull("no room")

    async with device.running():
        since = await until_proven(device)
        device.inner.installs.save_install = full  # type: ignore[assignment]
        with pytest.raises(DiskFull):
            await device.enforce(recalling(ONE.sha256))
        assert (device.versions(), device.deployments.answers()) == ((1, 1), None)
        await passing(device, since + DAY)

    assert soaked(device) == 0


async def test_a_full_disk_delays_what_is_noted_and_nothing_else(outside: Outside) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=600))
    async with device.running():
        since = await until_proven(device)
        failures = [DiskFull("no room"), DiskFull("no room")]
        save = device.inner.installs.save_slot

        def full(slot: Slot) -> None:
            if failures:
                raise failures.pop()
            save(slot)

        device.inner.installs.save_slot = full  # type: ignore[method-assign]
        await device.until(lambda: soaked(device) == 600)
        assert failures == []
        assert device.deployments.answers() == 1

    assert device.clock.seconds - since < 700
    assert [one.name for one in device.changes if one.name == "slot.soaked"] == ["slot.soaked"]


async def test_a_soak_needs_no_link(outside: Outside) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(soak=600))
    async with device.running():
        await until_proven(device)
        outside.errors["verify"] = [TransportError("no link") for _ in range(9)]
        outside.errors["fetch"] = [TransportError("no link") for _ in range(9)]
        await device.until(lambda: soaked(device) == 600)


# --- What is signed and kept ----------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["-1", "1.5", '"60"', "true", "null", "320000001", "1e400"])
def test_a_directive_that_asks_for_no_time_that_there_is_is_refused(seconds: str) -> None:
    good = canonical(asking(ONE.assignment(soak=60))).decode()

    with pytest.raises(DocumentError, match=r"soak_seconds|number"):
        decode(good.replace('"soak_seconds":60', f'"soak_seconds":{seconds}').encode(), Directive)


def test_the_longest_soak_is_one_that_no_policy_exceeds() -> None:
    most = asking(ONE.assignment(soak=MAX_SOAK_SECONDS))

    assert decode(canonical(most), Directive) == most


def test_a_directive_and_a_slot_from_before_soaks_were_asked_for_read_as_before() -> None:
    said = canonical(asking(ONE.assignment())).decode()
    before = said.replace('"soak_seconds":0,', "")
    kept = '{"model":"digits","name":"champion","active":null,"committed":null}'

    assert before != said
    old = decode(before.encode(), Directive)
    check_newer(asking(ONE.assignment()), 1, old.assignments)
    assert from_text(kept, Slot) == Slot("digits", "champion")
