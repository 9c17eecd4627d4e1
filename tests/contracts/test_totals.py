"""What every store promises of totals, which gates judge by."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.latency import BUCKETS
from controller.errors import Conflict, StoreError
from controller.monitor.estimator import Estimator
from controller.monitor.total import Sums, Total
from controller.store.sql import SqlStore
from controller.store.store import Store, Transaction
from simulations.memory_store import MemoryStore

ESTIMATOR = Estimator("p" * 64, 2, 5, 0.5, 2.0**-12, (0.25, 0.5, 1.0))
SUMS = Sums(5, 1, 2, 1_000, 3, 900, 850.25, 900, 800.5, (0,) * (BUCKETS - 2) + (990, 7))


def total(ended_ms: int, device: str = "dev-1", version: int = 1, times: int = 1) -> Total:
    sums = Sums()
    for _ in range(times):
        sums += SUMS
    return Total(device, "digits", version, ended_ms, sums)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    yield opened
    opened.close()


def test_an_estimator_comes_back_as_it_was_put_and_is_replaced_by_the_next(store: Store) -> None:
    blind = replace(ESTIMATOR, right=())
    with store.begin() as tx:
        tx.totals.put_estimator("digits", 1, ESTIMATOR)
        tx.totals.put_estimator("digits", 2, ESTIMATOR)
        tx.totals.put_estimator("digits", 2, blind)

    with store.read() as tx:
        assert tx.totals.estimator("digits", 1) == ESTIMATOR
        assert tx.totals.estimator("digits", 2) == blind
        assert tx.totals.estimator("faces", 1) is None


def test_the_last_total_of_a_device_and_version_is_found(store: Store) -> None:
    with store.begin() as tx:
        for one in (
            total(1_000),
            total(2_000, times=2),
            total(9_000, version=2),
            total(9_000, "dev-2", times=3),
        ):
            tx.totals.add(one)

    with store.read() as tx:
        assert tx.totals.last("dev-1", "digits", 1) == total(2_000, times=2)
        assert tx.totals.last("dev-1", "digits", 2) == total(9_000, version=2)
        assert tx.totals.last("dev-1", "faces", 1) is None
        assert tx.totals.last("dev-3", "digits", 1) is None


def test_what_was_told_since_a_moment_is_a_total_less_an_earlier_one(store: Store) -> None:
    with store.begin() as tx:
        for n in (1, 2, 3):
            tx.totals.add(total(1_000 * n, times=n))
        tx.totals.add(total(5_000, "dev-2"))
        tx.totals.add(total(2_500, "dev-1", version=2))

    def since(**ends: int) -> dict[str, Sums]:
        with store.read() as tx:
            named = {name.replace("_", "-"): end for name, end in ends.items()}
            return dict(tx.totals.since("digits", 1, named))

    assert since() == {}
    assert since(dev_1=0) == {"dev-1": total(0, times=3).sums}
    assert since(dev_1=999) == {"dev-1": total(0, times=3).sums}
    assert since(dev_1=1_000) == {"dev-1": total(0, times=2).sums}
    assert since(dev_1=2_999) == {"dev-1": total(0, times=1).sums}
    assert since(dev_1=3_000, dev_2=0, dev_3=0) == {"dev-2": SUMS}


def test_very_many_devices_are_asked_for_at_once(store: Store) -> None:
    names = [f"dev-{number:04}" for number in range(1_000)]
    with store.begin() as tx:
        for name in names:
            tx.totals.add(total(1_000, name))

    with store.read() as tx:
        found = tx.totals.since("digits", 1, dict.fromkeys(names, 0))

    assert sorted(found) == names


def test_large_numbers_come_back_to_the_last_digit(store: Store) -> None:
    counts = tuple(2**53 + at for at in range(BUCKETS))
    sums = replace(SUMS, requests=2**70, confidence=0.1 + 0.2, latency_counts=counts)
    with store.begin() as tx:
        tx.totals.add(replace(total(1_000), sums=sums))

    with store.read() as tx:
        assert tx.totals.since("digits", 1, {"dev-1": 0}) == {"dev-1": sums}


def test_a_total_never_ends_where_one_stands(store: Store) -> None:
    with store.begin() as tx:
        tx.totals.add(total(1_000))
    with pytest.raises(Conflict), store.begin() as tx:
        tx.totals.add(total(1_000, times=2))

    with store.read() as tx:
        assert tx.totals.last("dev-1", "digits", 1) == total(1_000)


def test_totals_expire_with_the_windows_and_what_is_left_still_counts(store: Store) -> None:
    with store.begin() as tx:
        for n in range(1, 6):
            tx.totals.add(total(1_000 * n, times=n))
    removed = []
    for _ in range(3):
        with store.begin() as tx:
            removed.append(tx.retention.expire(4_000, 2))

    assert removed == [2, 1, 0]
    with store.read() as tx:
        assert tx.totals.since("digits", 1, {"dev-1": 4_500}) == {"dev-1": SUMS}
    with store.begin() as tx:
        assert tx.retention.expire(9_000, 100) == 2
        assert tx.totals.last("dev-1", "digits", 1) is None
        assert tx.totals.since("digits", 1, {"dev-1": 0}) == {}


@pytest.mark.parametrize(
    "write",
    [
        lambda tx: tx.totals.add(total(9_000)),
        lambda tx: tx.totals.put_estimator("digits", 1, ESTIMATOR),
    ],
)
def test_what_fails_or_only_reads_leaves_nothing(
    store: Store, write: Callable[[Transaction], object]
) -> None:
    with pytest.raises(StoreError), store.read() as tx:
        write(tx)
    with suppress(ZeroDivisionError), store.begin() as tx:
        write(tx)
        raise ZeroDivisionError

    with store.read() as tx:
        assert tx.totals.last("dev-1", "digits", 1) is None
        assert tx.totals.estimator("digits", 1) is None


NUMBERS = st.integers(0, 2**53)
ANY_SUMS = st.builds(
    Sums,
    judged=NUMBERS,
    requests=NUMBERS,
    latency_counts=st.lists(NUMBERS, min_size=BUCKETS, max_size=BUCKETS).map(tuple),
)


@given(ANY_SUMS, ANY_SUMS)
@settings(max_examples=30)
def test_sums_add_up_and_come_apart_exactly(one: Sums, other: Sums) -> None:
    assert one + other - other == one
    assert one + other == other + one
