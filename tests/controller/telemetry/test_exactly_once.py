"""Uploads end up in the store exactly once, whatever is lost, repeated or late."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import ControllerError
from controller.store.sql import SqlStore
from controller.store.store import Store
from protos.v1 import telemetry_pb2
from simulations.memory_store import MemoryStore
from tests.controller.telemetry.uploads import (
    KEY,
    Stored,
    enrol,
    event,
    reading,
    report,
    send,
    stored,
    window,
)


def test_every_kind_of_record_is_stored_and_acknowledged(store: Store) -> None:
    through = send(store, window(1), event(2), reading(3), report(4, 1), dropped={"window": 9})

    assert through == 4
    assert stored(store) == Stored(["w1"], ["install.committed"], 1, [1], {})
    with store.begin() as tx:
        assert tx.telemetry.dropped("dev-1") == {"window": 9}
        (kept,) = tx.telemetry.windows("digits")
        assert telemetry_pb2.Window.FromString(kept.payload) == window(1).window
        (told,) = tx.telemetry.resources("dev-1")
        assert telemetry_pb2.Resources.FromString(told.payload).cpu_share == 0.25


def test_a_repeated_upload_adds_nothing_and_is_acknowledged_again(store: Store) -> None:
    records = (window(1), event(2), reading(3), report(4, 1))
    send(store, *records)
    before = stored(store)

    assert send(store, *records) == 4

    assert stored(store) == before


def test_an_old_upload_that_comes_late_adds_nothing(store: Store) -> None:
    send(store, window(1), window(2))
    send(store, window(3))

    assert send(store, window(1), window(2)) == 3

    assert stored(store).windows == ["w1", "w2", "w3"]


def test_records_out_of_order_in_one_upload_are_all_stored(store: Store) -> None:
    assert send(store, event(3, "three"), event(1, "one"), event(2, "two")) == 3

    assert stored(store).events == ["one", "two", "three"]


def test_gaps_of_dropped_records_are_passed_over(store: Store) -> None:
    assert send(store, window(5), window(90)) == 90

    assert send(store) == 90


def test_spools_are_counted_apart_and_a_window_in_two_of_them_is_stored_once(store: Store) -> None:
    send(store, window(1), window(2), spool="old")

    assert send(store, window(1), event(2), spool="new") == 2

    assert stored(store).windows == ["w1", "w2"]
    assert stored(store).events == ["install.committed"]


def test_nothing_is_stored_when_the_transaction_fails(tmp_path: Path) -> None:
    store = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    enrol(store, "dev-1", KEY)
    with store.begin() as tx:
        tx.telemetry._session._connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON cursors BEGIN SELECT RAISE(FAIL, 'disk full'); END"
        )

    with pytest.raises(ControllerError):
        send(store, window(1), event(2), report(3, 1))

    assert stored(store) == Stored([], [], 0, [], {})
    with store.begin() as tx:
        tx.telemetry._session._connection.exec_driver_sql("DROP TRIGGER full")
    assert send(store, window(1), event(2), report(3, 1)) == 3
    assert stored(store) == Stored(["w1"], ["install.committed"], 0, [1], {})
    store.close()


@settings(max_examples=60, deadline=None)
@given(
    rng=st.randoms(use_true_random=False),
    count=st.integers(1, 40),
    lost=st.floats(0, 0.9),
    size=st.integers(1, 10),
)
def test_whatever_is_lost_repeated_or_late_each_window_is_counted_once(
    rng: random.Random, count: int, lost: float, size: int
) -> None:
    """A device that sends its oldest records until they are acknowledged, over a bad network."""
    store = MemoryStore()
    enrol(store, "dev-1", KEY)
    waiting = list(range(1, count + 1))
    late: list[list[int]] = []
    while waiting:
        batch = waiting[: rng.randint(1, size)]
        late.append(batch)
        for sent in (batch, rng.choice(late)):  # now and then an old one once more
            reached = rng.random() >= lost
            through = send(store, *(window(one) for one in sent)) if reached else 0
            if sent is batch and rng.random() >= lost:  # the reply may be lost, too
                waiting = [one for one in waiting if one > through]

    assert sorted(stored(store).windows) == sorted(f"w{one}" for one in range(1, count + 1))
