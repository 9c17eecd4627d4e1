"""Which route is dialled, and when a better one is looked at: decided over values."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import AgentError, Refused, TransportError
from agent.transport.backoff import Backoff
from agent.transport.route import (
    JITTER,
    RAREST,
    Known,
    Patience,
    after_dial,
    after_link,
    after_look,
    after_loss,
    ends_round,
    looks_every,
    next_look,
    nothing_known,
    order,
    pause,
    why,
)

PATIENCE = Patience(
    unanswered=Backoff(base=1.0, cap=60.0),
    refused=Backoff(base=900.0, cap=3600.0),
    looks=looks_every(300.0),
    stable_after=60.0,
)
REVOKED = Refused("device-revoked", "'cam-1' was revoked", "Enrol it anew.")
SILENT = TransportError("nobody answers")
MOMENTS = st.floats(0.0, 1e7)
KNOWN = st.builds(
    Known,
    failed_at=st.lists(st.none() | MOMENTS, min_size=1, max_size=5).map(tuple),
    pauses=st.integers(0, 100),
    looks=st.integers(0, 100),
)


def chance(seed: int = 1) -> Random:
    return Random(seed)  # noqa: S311 - no secret depends on it


# --- What a round dials ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed_at", "now", "dialled"),
    [
        ((None,), 0.0, (0,)),
        ((None, None, None), 0.0, (0, 1, 2)),
        ((1000.0, None, None), 1299.0, (1, 2, 0)),
        ((1000.0, None, None), 1300.0, (0, 1, 2)),
        ((None, 1000.0, None), 1001.0, (0, 2, 1)),
        ((1000.0, 1200.0, None), 1250.0, (2, 0, 1)),
        ((1000.0, 1200.0, None), 1350.0, (0, 2, 1)),
        ((1200.0, 1000.0, 1100.0), 1250.0, (0, 1, 2)),
        ((0.0,), 0.0, (0,)),
    ],
)
def test_a_round_goes_by_preference_and_what_failed_a_moment_ago_comes_last(
    failed_at: tuple[float | None, ...], now: float, dialled: tuple[int, ...]
) -> None:
    assert order(Known(failed_at), PATIENCE, now) == dialled


@settings(max_examples=200)
@given(known=KNOWN, now=MOMENTS)
def test_a_round_dials_every_route_once(known: Known, now: float) -> None:
    assert sorted(order(known, PATIENCE, now)) == list(range(len(known.failed_at)))


@settings(max_examples=200)
@given(known=KNOWN, now=MOMENTS)
def test_routes_that_failed_at_the_same_moment_keep_their_order(known: Known, now: float) -> None:
    alike = replace(known, failed_at=(known.failed_at[0],) * len(known.failed_at))

    assert order(alike, PATIENCE, now) == tuple(range(len(known.failed_at)))


def test_only_the_controllers_own_word_ends_a_round() -> None:
    assert ends_round(REVOKED)
    assert not ends_round(SILENT)


# --- What is learnt ----------------------------------------------------------------------------------


def test_a_failure_is_of_its_route_alone() -> None:
    known = Known((1.0, None, 3.0), pauses=4, looks=5)

    assert after_dial(known, 1, SILENT, 7.0) == Known((1.0, 7.0, 3.0), pauses=4, looks=5)


def test_a_refusal_is_no_failure_of_its_route() -> None:
    known = Known((1.0, None, 3.0), pauses=4, looks=5)

    assert after_dial(known, 1, REVOKED, 7.0) == known


@pytest.mark.parametrize(
    ("rank", "lived", "after"),
    [
        (0, 59.9, Known((500.0, None), pauses=4, looks=5)),  # it ended young: the route has failed
        (1, 59.9, Known((None, 500.0), pauses=4, looks=5)),
        (0, 60.0, Known((None, None), pauses=0, looks=0)),
        (1, 60.0, Known((None, None), pauses=0, looks=5)),  # the better one has still not lasted
    ],
)
def test_what_a_link_that_ended_says_of_its_route(rank: int, lived: float, after: Known) -> None:
    known = Known((None, None), pauses=4, looks=5)

    assert after_loss(known, rank, lived, PATIENCE, 500.0) == after


@pytest.mark.parametrize(
    ("rank", "lived", "after"),
    [
        (1, 59.9, Known((1.0, None, None), pauses=4, looks=5)),
        (1, 60.0, Known((1.0, None, None), pauses=0, looks=5)),
        (2, 1e6, Known((1.0, None, None), pauses=0, looks=5)),
    ],
)
def test_a_link_that_was_left_has_not_failed(rank: int, lived: float, after: Known) -> None:
    known = Known((1.0, None, None), pauses=4, looks=5)

    assert after_link(known, rank, lived, PATIENCE) == after


# --- Waits between rounds ----------------------------------------------------------------------------


@settings(max_examples=100)
@given(known=KNOWN, seed=st.integers(0, 2**32))
def test_waits_are_full_jitter_of_the_schedule_of_what_went_wrong(known: Known, seed: int) -> None:
    for error, schedule in ((SILENT, PATIENCE.unanswered), (REVOKED, PATIENCE.refused)):
        after, wait = pause(known, error, PATIENCE, chance(seed))

        assert wait == schedule.delay(known.pauses, chance(seed))
        assert after == replace(known, pauses=known.pauses + 1)


# --- Looks -------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(known=KNOWN, seed=st.integers(0, 2**32))
def test_there_is_nothing_better_than_the_preferred_route(known: Known, seed: int) -> None:
    assert next_look(known, 0, PATIENCE, chance(seed)) is None


@settings(max_examples=200)
@given(looks=st.integers(0, 10_000), rank=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_looks_become_rarer_up_to_a_bound_with_jitter(looks: int, rank: int, seed: int) -> None:
    known = Known((None,) * 5, looks=looks)
    middle = 300.0 * min(RAREST, 2 ** min(looks, 10))
    wait = next_look(known, rank, PATIENCE, chance(seed))

    assert wait is not None
    assert middle * (1 - JITTER) <= wait <= middle * (1 + JITTER)


def test_looks_of_a_fleet_are_spread_evenly() -> None:
    rng = chance(7)
    waits = [next_look(nothing_known(2), 1, PATIENCE, rng) or 0.0 for _ in range(20_000)]
    shares = [
        sum(low <= wait < low + 75 for wait in waits) / len(waits) for low in (150, 225, 300, 375)
    ]

    # Standard deviation of a share: sqrt(1/4 * 3/4 / 20000) = 0.0031.
    assert all(abs(share - 0.25) < 0.0155 for share in shares)


def test_a_look_counts_whatever_comes_of_it() -> None:
    assert after_look(Known((1.0, None), pauses=2, looks=3)) == Known((1.0, None), 2, 4)


# --- Days of it --------------------------------------------------------------------------------------


def dials_of_a_dead_route(seed: int, lives: list[float], take: float) -> list[float]:
    """When the preferred route was dialled, which never answers, while the other one always does.

    ``lives`` are for how long its links live, one after the other; every dial of the dead one takes
    ``take`` seconds.
    """
    known, rng, now, dialled = nothing_known(2), chance(seed), 0.0, []
    for life in lives:
        for rank in order(known, PATIENCE, now):
            if rank == 1:
                break
            dialled.append(now)
            now += take
            known = after_dial(known, 0, SILENT, now)
        ends = now + life
        while now + (look := next_look(known, 1, PATIENCE, rng) or 0.0) < ends:
            now += look
            known = after_look(known)
            dialled.append(now)
            now += take
            known = after_dial(known, 0, SILENT, now)
        now = max(now, ends)
        known = after_loss(known, 1, life, PATIENCE, now)
        known, wait = pause(known, SILENT, PATIENCE, rng)
        now += wait
    return dialled


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lives=st.lists(st.floats(60.0, 20_000.0), min_size=2, max_size=60),
    take=st.floats(0.01, 60.0),
)
def test_a_dead_route_is_not_hammered_however_often_the_other_one_is_cut(
    seed: int, lives: list[float], take: float
) -> None:
    dialled = dials_of_a_dead_route(seed, lives, take)

    gaps = [later - earlier for earlier, later in pairwise(dialled)]
    assert all(gap >= 300.0 * (1 - JITTER) for gap in gaps)


def test_a_dead_route_is_dialled_once_an_hour_in_the_long_run() -> None:
    day = 86_400.0
    dialled = dials_of_a_dead_route(3, [30 * day], 20.0)

    assert 30 * 24 * 0.9 < len(dialled) < 30 * 24 * 1.1
    assert max(b - a for a, b in pairwise(dialled)) < 2 * 3600.0


# --- Why there is no link ----------------------------------------------------------------------------


def test_one_failure_is_told_as_it_is() -> None:
    assert why([("grpc", SILENT)]) is SILENT


def test_several_failures_are_told_by_their_routes() -> None:
    error = why([("grpc", SILENT), ("mqtt", TransportError("no broker"))])

    assert isinstance(error, TransportError)
    assert error.detail == "grpc: nobody answers; mqtt: no broker"


def test_a_refusal_is_told_whatever_failed_before() -> None:
    failures: list[tuple[str, AgentError]] = [("grpc", SILENT), ("mqtt", REVOKED)]

    assert why(failures) is REVOKED


def test_looks_can_not_be_more_frequent_than_ever() -> None:
    with pytest.raises(ValueError, match="base"):
        looks_every(0.0)
