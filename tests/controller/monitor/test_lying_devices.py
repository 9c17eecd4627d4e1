"""A few devices that tell what they like neither make a fleet's verdict nor hide one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.monitor.counts import Counts
from agent.monitor.finding import Judgement, Verdict
from agent.monitor.observer import Observer
from agent.monitor.reference import CELLS
from agent.monitor.window import OpenWindow
from agent.monitor.wire import window_message
from controller.monitor.actions import healthy_windows, profile_report
from controller.monitor.fleet import judge_fleet
from controller.monitor.merge import merged, middle, thinned
from protos.manifest import read_manifest
from tests.agent.monitor import profiles
from tests.controller.monitor.pumps import TRAFFIC, controller, stored

REFERENCE = profiles.reference()
ENOUGH = REFERENCE.policy.n_min


def told_over(counts: Counts, times: int) -> Counts:
    """The same counts, so many times as many."""
    return replace(
        counts, rows=counts.rows * times, cells=counts.cells * times, sums=counts.sums * times
    )


def fleet(devices: int, shift: float = 0.0, rows: int = 300) -> dict[str, Counts]:
    rng = np.random.default_rng([devices, 5])
    return {f"d{at:03}": profiles.window(rng, rows, shift=shift) for at in range(devices)}


def liar(shift: float = 0.0, rows: int = 3000, times: int = 10**6) -> dict[str, Counts]:
    window = profiles.window(np.random.default_rng(77), rows, shift=shift)
    return {"liar": told_over(window, times)}


@pytest.mark.parametrize("devices", [3, 5, 12])
def test_who_tells_of_very_many_rows_hides_no_change_of_all_others(devices: int) -> None:
    found = judge_fleet(REFERENCE, fleet(devices, shift=1.0) | liar())

    assert found.world.verdict is Verdict.DRIFT
    assert found.broken == ()


@pytest.mark.parametrize("devices", [3, 5, 12, 40])
def test_who_tells_of_very_many_rows_makes_no_change_of_the_world(devices: int) -> None:
    """So little that by itself it is no finding: else the device would be broken, and left out."""
    told = liar(shift=0.2)
    assert judge_fleet(REFERENCE, told).devices[0].judgement.verdict is Verdict.OK

    found = judge_fleet(REFERENCE, fleet(devices) | told)

    assert found.world.verdict is Verdict.OK


def test_who_alone_tells_enough_outvotes_not_the_many_that_tell_a_little() -> None:
    quiet = fleet(30, shift=1.0, rows=20)
    assert judge_fleet(REFERENCE, quiet).world.verdict is Verdict.DRIFT

    found = judge_fleet(REFERENCE, quiet | liar())

    assert found.world.verdict is Verdict.DRIFT
    assert found.world_rows == 2 * 30 * 20


def test_it_is_told_whose_rows_count_only_in_part() -> None:
    found = judge_fleet(REFERENCE, fleet(5) | liar())

    assert [one.device for one in found.devices if one.counted < one.rows] == ["liar"]
    assert found.world_rows == 6 * 300
    assert found.sentences == (
        "the data of 6 of 6 devices together (1,800 predictions) are as in the reference",
        (
            "of 1 device only 300 predictions count, as many as of the middle one: liar, which told "
            "of 3,000,000,000"
        ),
    )


def test_many_whose_rows_count_only_in_part_are_a_number_and_the_largest() -> None:
    rng = np.random.default_rng(6)
    others = {f"busy{at}": profiles.window(rng, 300 * (2 + at)) for at in range(6)}

    found = judge_fleet(REFERENCE, fleet(7) | others)

    assert found.sentences[-1] == (
        "of 3 devices only 300 predictions count, as many as of the middle one: busy5, which told "
        "of 2,100, and others"
    )


def nothing_but_nan(rows: int) -> Counts:
    """What a device tells that has no reading at all."""
    observer = Observer(REFERENCE)
    x = np.full((rows, 3), np.nan, np.float32)
    observer.observe(
        profiles.inputs(x, profiles.colours(np.random.default_rng(rows), rows)), profiles.answers(x)
    )
    return observer.drain()


@pytest.mark.parametrize("devices", [5, 20, 60])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_faulty_data_of_one_row_too_few_to_be_judged_hide_no_drift_and_make_no_fault(
    devices: int, shift: float
) -> None:
    told = fleet(devices, shift=shift)

    found = judge_fleet(REFERENCE, told | {"liar": nothing_but_nan(ENOUGH - 1)})

    assert found.world.verdict is (Verdict.DRIFT if shift else Verdict.OK)
    assert found.world_rows == devices * 300
    assert [one.device for one in found.broken] == ["liar"]
    assert found.broken[0].judgement.verdict is Verdict.BAD_DATA
    assert any(said.startswith("liar: 100 % of ") for said in found.sentences)


def test_faulty_data_of_few_rows_hide_no_drift_where_all_tell_of_few() -> None:
    quiet = fleet(30, shift=1.0, rows=20)

    found = judge_fleet(REFERENCE, quiet | {"liar": nothing_but_nan(ENOUGH - 1)})

    assert found.world.verdict is Verdict.DRIFT
    assert [one.device for one in found.broken] == ["liar"]


@pytest.mark.parametrize("rows", [1, 5, 20, ENOUGH - 1])
def test_one_bad_reading_of_a_device_that_tells_of_few_rows_is_no_fault(rows: int) -> None:
    few = nothing_but_nan(1)
    if rows > 1:
        few += profiles.window(np.random.default_rng(rows), rows - 1)

    found = judge_fleet(REFERENCE, fleet(20) | {"few": few})

    assert found.broken == ()
    assert found.world.verdict is Verdict.OK
    assert found.sentences[-1] == "1 of 21 devices have too little data to judge"


# --- Laws -----------------------------------------------------------------------------------------

windows = st.builds(
    lambda seed, rows, shift: profiles.window(np.random.default_rng(seed), rows, shift=shift),
    st.integers(0, 50),
    st.integers(20, 900),
    st.sampled_from([0.0, 0.3, 2.0]),
)


@given(windows, st.integers(1, 1000))
@settings(max_examples=60, deadline=None)
def test_thinned_counts_have_so_many_rows_and_the_shares_that_they_had(
    counts: Counts, rows: int
) -> None:
    found = thinned(counts, rows)

    assert found.rows == min(rows, counts.rows)
    assert (found.cells.sum(axis=1) == found.rows).all()
    assert np.abs(found.cells - counts.cells * (found.rows / counts.rows)).max() < 1
    assert (found.cells[counts.cells == 0] == 0).all()


@given(windows, st.integers(1, 10**7))
@settings(max_examples=60, deadline=None)
def test_thinned_back_to_what_they_were_counts_are_the_same(counts: Counts, times: int) -> None:
    assert thinned(told_over(counts, times), counts.rows) == counts
    assert thinned(counts, counts.rows + times) is counts


@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=9),
    st.integers(901, 10**9),
    st.integers(1, 9),
)
@settings(max_examples=100, deadline=None)
def test_to_tell_of_more_than_all_others_gives_no_more_say_however_many_more(
    rows: list[int], claimed: int, times: int
) -> None:
    most = middle([*rows, claimed], ENOUGH)

    assert middle([*rows, claimed * times], ENOUGH) == most
    assert most <= sum(rows)


@given(
    st.sampled_from([0.0, 1.0, 2.0]),
    st.lists(st.integers(300, 1500), min_size=3, max_size=9),
    st.integers(0, 20),
)
@settings(max_examples=40, deadline=None)
def test_honest_fleets_are_judged_as_all_their_rows_together_would_be(
    shift: float, rows: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    counts = {f"d{at}": profiles.window(rng, one, shift=shift) for at, one in enumerate(rows)}
    total = merged(counts.values())
    assert total is not None

    found = judge_fleet(REFERENCE, counts)

    assert found.world.verdict is (Verdict.DRIFT if shift else Verdict.OK)
    assert found.world_rows <= total.rows
    level = max(rows) == min(rows)
    assert not level or found.world_rows == total.rows


def test_counts_of_no_rows_are_thinned_to_none() -> None:
    nothing = replace(
        profiles.window(np.random.default_rng(1), 300),
        rows=0,
        cells=np.zeros((len(REFERENCE.series), CELLS), np.int64),
    )

    assert thinned(nothing, 5) is nothing
    assert middle([0, 5], ENOUGH) == 0


# --- What else is made of the windows ---------------------------------------------------------------


def test_the_profile_of_a_fleet_is_not_that_of_who_tells_of_most() -> None:
    told: list[Any] = [stored(f"d{at}", 1) for at in range(4)]
    busy = stored("busy", 1, rows=60_000, shift=2.0)

    report = profile_report(*controller([*told, busy]), "pump")
    alone = profile_report(*controller([*told, busy]), "pump", device="busy")

    assert (report.rows, alone.rows) == (5 * 300, 60_000)


def test_a_candidate_is_profiled_by_no_device_more_than_by_the_middle_one() -> None:
    told = [stored(f"d{at}", number) for at in range(4) for number in (1, 2)]
    store, blobs = controller([*told, stored("busy", 1, rows=60_000)])
    with store.read() as tx:
        version = tx.registry.version("pump", 1)
    assert version is not None

    found = healthy_windows(store, blobs, read_manifest(version.manifest))

    assert {device: sum(one.rows for one in some) for device, some in found.items()} == {
        "busy": 300,
        **{f"d{at}": 300 for at in range(4)},
    }


def test_a_candidate_is_not_profiled_by_faulty_data_of_few_rows() -> None:
    told = [stored(f"d{at}", 1) for at in range(4)]
    counts = nothing_but_nan(ENOUGH - 1)
    window = OpenWindow("liar-1", "pump", 1, "a" * 64, 1000, counts, TRAFFIC[0])
    message = window_message(window, 1500, Judgement(Verdict.INSUFFICIENT_DATA))
    lied = replace(stored("liar", 1), rows=counts.rows, payload=message.SerializeToString())
    store, blobs = controller([*told, lied])
    with store.read() as tx:
        version = tx.registry.version("pump", 1)
    assert version is not None

    found = healthy_windows(store, blobs, read_manifest(version.manifest))

    assert sorted(found) == ["d0", "d1", "d2", "d3"]
