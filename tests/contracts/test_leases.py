"""Two controllers on one database: what every store promises of leases."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store.sql import SqlStore
from controller.store.store import Store
from simulations.memory_store import MemoryStore

Pair = tuple[Store, Store]


@pytest.fixture(params=["memory", "sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """What two controllers hold of one database."""
    pair: Pair
    if request.param == "memory":
        shared = MemoryStore()
        pair = (shared, shared)
    else:
        url = f"sqlite:///{tmp_path}/muster.db"
        pair = (SqlStore.open(url), SqlStore.open(url))
    yield pair
    for store in pair:
        store.close()


def acquires(store: Store, holder: str, now: float, seconds: float = 30.0) -> bool:
    with store.begin() as tx:
        return tx.leases.acquire("rollouts", holder, now, seconds)


def holder(store: Store, now: float) -> str | None:
    with store.read() as tx:
        return tx.leases.holder("rollouts", now)


def test_whoever_comes_first_holds_the_lease_until_it_runs_out(stores: Pair) -> None:
    one, two = stores

    assert holder(two, 100.0) is None
    assert acquires(one, "one", 100.0)
    assert not acquires(two, "two", 129.9)
    assert holder(two, 129.9) == "one"

    assert holder(two, 130.0) is None
    assert acquires(two, "two", 130.0)
    assert not acquires(one, "one", 130.0)
    assert holder(one, 130.0) == "two"


def test_whoever_keeps_renewing_keeps_it(stores: Pair) -> None:
    one, two = stores

    for now in (100.0, 120.0, 140.0, 160.0):
        assert acquires(one, "one", now)
        assert not acquires(two, "two", now + 19.0)

    assert holder(two, 189.0) == "one"


def test_what_is_released_is_free_at_once_but_only_its_holder_releases_it(stores: Pair) -> None:
    one, two = stores
    acquires(one, "one", 100.0)

    with two.begin() as tx:
        tx.leases.release("rollouts", "two")
        tx.leases.release("nothing", "two")
    assert holder(two, 101.0) == "one"

    with one.begin() as tx:
        tx.leases.release("rollouts", "one")
    assert holder(two, 101.0) is None
    assert acquires(two, "two", 101.0)


def test_leases_of_other_names_are_others(stores: Pair) -> None:
    one, two = stores
    acquires(one, "one", 100.0)

    with two.begin() as tx:
        assert tx.leases.acquire("retention", "two", 100.0, 30.0)
        assert tx.leases.holder("rollouts", 100.0) == "one"


def test_a_clock_that_was_set_back_keeps_nobody_out_for_longer_than_the_lease(stores: Pair) -> None:
    one, two = stores
    acquires(one, "one", 2e9)  # and then it dies, and the clock is put right

    assert not acquires(two, "two", 1000.0)
    assert not acquires(two, "two", 1029.0)
    assert acquires(two, "two", 1030.0)


def test_a_holder_that_lives_keeps_the_lease_when_the_clock_is_set_back(stores: Pair) -> None:
    one, two = stores
    acquires(one, "one", 2e9)

    assert not acquires(two, "two", 1000.0)
    assert acquires(one, "one", 1010.0)
    assert not acquires(two, "two", 1039.0)
    assert acquires(two, "two", 1040.0)


def test_a_holder_that_was_overtaken_is_told_so_before_it_can_act(stores: Pair) -> None:
    one, two = stores
    acquires(one, "one", 100.0)
    assert acquires(two, "two", 150.0)

    # Its own clock stood still, and by that its lease still runs.
    assert not acquires(one, "one", 110.0)
    assert acquires(two, "two", 151.0)


def test_of_many_that_ask_at_once_exactly_one_wins_each_time(stores: Pair) -> None:
    contenders = 6
    start = threading.Barrier(contenders)
    won: list[list[str]] = [[] for _ in range(5)]

    def contend(number: int) -> None:
        for turn, winners in enumerate(won):
            start.wait(timeout=30)
            # Each time the lease of the time before has run out.
            if acquires(stores[number % 2], f"controller-{number}", 100.0 * (turn + 1)):
                winners.append(f"controller-{number}")

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert [len(winners) for winners in won] == [1] * 5
    assert holder(stores[0], 500.0) == won[-1][0]
