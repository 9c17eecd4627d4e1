"""What the spool of every ``DeviceStore`` promises."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.store.device_store import DeviceStore
from agent.store.spool_order import LEAST_VALUABLE_FIRST, SHARES, SpoolLimits
from tests.contracts.device_stores import Opener, reopened


@pytest.fixture
def store(opened: Opener) -> DeviceStore:
    return opened()


def test_the_spool_gives_the_oldest_records_in_order(store: DeviceStore, opened: Opener) -> None:
    sequences = [store.spool.put("event", b"x" * 10, at) for at in range(5)]
    again = reopened(store, opened)

    assert sequences == [1, 2, 3, 4, 5]
    assert [one.sequence for one in again.spool.batch(3, 1000)] == [1, 2, 3]
    assert [one.sequence for one in again.spool.batch(9, 25)] == [1, 2]
    assert [one.sequence for one in again.spool.batch(9, 5)] == [1], "the first, however large"
    first = again.spool.batch(1, 1000)[0]
    assert (first.kind, first.recorded_ms, first.payload) == ("event", 0, b"x" * 10)


def test_sequences_are_never_used_again(store: DeviceStore, opened: Opener) -> None:
    for at in range(3):
        store.spool.put("window", b"w", at)
    store.spool.forget(3)
    assert len(store.spool) == 0

    again = reopened(store, opened)

    assert again.spool.put("window", b"w", 9) == 4
    again.spool.forget(2)
    assert len(again.spool) == 1


def test_the_spool_keeps_its_name(store: DeviceStore, opened: Opener) -> None:
    name = store.spool.spool_id

    assert name
    assert reopened(store, opened).spool.spool_id == name


def test_a_full_spool_drops_the_least_valuable_kind_first_and_counts(opened: Opener) -> None:
    store = opened(SpoolLimits(records=4, size=1000))
    for kind in ("report", "resources", "event", "window"):
        store.spool.put(kind, b"x", 0)

    store.spool.put("report", b"x", 1)  # resources goes
    store.spool.put("window", b"x", 2)  # the older window goes, before any event
    refused = store.spool.put("resources", b"x", 3)  # nothing is worth less than itself
    left = [(one.sequence, one.kind) for one in store.spool.batch(9, 999)]

    assert left == [(1, "report"), (3, "event"), (5, "report"), (6, "window")]
    assert refused == 7
    assert dict(store.spool.dropped()) == {"resources": 2, "window": 1}


@pytest.mark.parametrize(("many", "few"), [("event", "window"), ("window", "event")])
def test_a_spool_full_of_one_kind_keeps_the_newest_of_another_within_its_share(
    opened: Opener, many: str, few: str
) -> None:
    store = opened(SpoolLimits(records=20, size=1000))
    for at in range(30):
        store.spool.put(many, b"x", at)

    kept = [store.spool.put(few, b"x", at) for at in range(20)]

    told = [one.sequence for one in store.spool.batch(99, 9999) if one.kind == few]
    assert told == kept[-len(told) :]
    assert len(told) >= 20 * SHARES[few] // 100
    assert len(store.spool) - len(told) >= 20 * SHARES[many] // 100
    assert len(store.spool) == 20


def test_what_was_undone_takes_no_place_in_the_spool(opened: Opener) -> None:
    store = opened(SpoolLimits(records=10, size=1000))
    for at in range(8):
        store.spool.put("event", b"x", at)

    def fail_in_the_middle() -> None:
        with store.transaction():
            store.spool.forget(3)
            for at in range(6):
                store.spool.put("event", b"y", at)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()
    store.spool.put("event", b"z", 9)
    store.spool.put("event", b"z", 9)
    assert (len(store.spool), dict(store.spool.dropped())) == (10, {})

    store.spool.put("event", b"z", 9)
    assert (len(store.spool), dict(store.spool.dropped())) == (10, {"event": 1})


def test_a_record_larger_than_the_spool_pushes_nothing_out(opened: Opener) -> None:
    store = opened(SpoolLimits(records=10, size=100))
    store.spool.put("resources", b"x" * 90, 0)

    store.spool.put("report", b"x" * 101, 1)

    assert [one.kind for one in store.spool.batch(9, 999)] == ["resources"]
    assert dict(store.spool.dropped()) == {"report": 1}
    assert store.spool.put("report", b"x" * 100, 2) == 3
    assert [one.sequence for one in store.spool.batch(9, 999)] == [3]


def test_an_unknown_kind_is_a_bug(store: DeviceStore) -> None:
    with pytest.raises(ValueError, match="gossip"):
        store.spool.put("gossip", b"", 0)


PUTS = st.lists(
    st.tuples(st.sampled_from(LEAST_VALUABLE_FIRST), st.integers(0, 60)), max_size=40
)  # fmt: skip


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(puts=PUTS)
def test_a_kind_loses_its_oldest_and_only_what_is_beyond_its_share(
    opened: Opener, puts: list[tuple[str, int]]
) -> None:
    limits = SpoolLimits(records=8, size=150)
    store = opened(limits)
    store.spool.forget(store.spool.put("event", b"", 0))
    already = dict(store.spool.dropped())
    before: dict[int, tuple[str, int]] = {}

    for kind, size in puts:
        before[store.spool.put(kind, b"x" * size, 0)] = (kind, size)
        now = {one.sequence: (one.kind, len(one.payload)) for one in store.spool.batch(99, 9999)}
        assert len(now) <= limits.records
        assert sum(size for _, size in now.values()) <= limits.size
        for lost in LEAST_VALUABLE_FIRST:
            gone = [at for at, (k, _) in before.items() if k == lost and at not in now]
            kept = [at for at, (k, _) in now.items() if k == lost]
            if gone:
                assert all(at > max(gone) for at in kept), "the oldest go first"
                sizes = sum(before[at][1] for at in [*kept, max(gone)])
                assert (
                    100 * (len(kept) + 1) > SHARES[lost] * limits.records
                    or 100 * sizes > SHARES[lost] * limits.size
                )
        before = now

    dropped = sum(store.spool.dropped().values()) - sum(already.values())
    assert dropped + len(store.spool) == len(puts)
    store.close()
