"""What every ``DeviceStore`` promises."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import StaleDirective, StoreError
from agent.install.machine import State
from agent.install.record import Deployed, Install, Slot
from agent.store.device_store import DeviceStore, Identity, Quarantine, TrustedState
from agent.store.spool_order import DEFAULT_LIMITS, LEAST_VALUABLE_FIRST, SHARES, SpoolLimits
from agent.store.sqlite_store import SqliteStore
from protos.documents import Conditions, Window
from simulations.memory_device_store import Contents, MemoryDeviceStore

DEPLOYED = Deployed("digits", 3, "a" * 64, "b" * 64, release_counter=3, approvals=2)
SLOT = Slot("digits", "champion", active=DEPLOYED, committed=replace(DEPLOYED, version=2))
INSTALL = Install(
    model="digits", slot="champion", version=3, generation=7, target="models/digits/3.json",
    sha256="a" * 64, length=900, state=State.SELF_TEST, since=1700000000.25, rollout="r1",
    resumptions=2, not_before=1700000100.5, code="transport", detail="nobody answered: 连接",
    approvals=2, candidate=DEPLOYED, attempt=3,
    conditions=Conditions(
        windows=(Window(start_minute=60, minutes=90, days=(0, 6)),), battery_percent=40, unmetered=True
    ),
)  # fmt: skip
IDENTITY = Identity("dev-1", b"\x00pem\xff", b"ca", "host:1", "host:2", b"{}")

Opener = Callable[..., DeviceStore]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the store; again, once it is closed, with what it held."""
    disk = Contents()
    stores: list[DeviceStore] = []

    def opener(limits: SpoolLimits = DEFAULT_LIMITS) -> DeviceStore:
        store: DeviceStore = (
            MemoryDeviceStore(limits, contents=disk)
            if request.param == "memory"
            else SqliteStore(tmp_path / "home", limits)
        )
        stores.append(store)
        return store

    yield opener
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opener) -> DeviceStore:
    return opened()


def reopened(store: DeviceStore, opened: Opener) -> DeviceStore:
    store.close()
    return opened()


def test_a_new_store_knows_nothing(store: DeviceStore) -> None:
    assert store.identity.load() is None
    assert store.trust.load() == TrustedState()
    assert (store.installs.directive(), store.installs.generation()) == (b"", 0)
    assert (list(store.installs.slots()), list(store.installs.installs())) == ([], [])
    assert (len(store.spool), dict(store.spool.dropped())) == (0, {})
    assert dict(store.windows.checkpoints()) == {}


def test_identity_comes_back_as_it_was_saved(store: DeviceStore, opened: Opener) -> None:
    store.identity.save(replace(IDENTITY, device="old"))
    store.identity.save(IDENTITY)

    assert reopened(store, opened).identity.load() == IDENTITY


def test_counters_are_never_given_twice_over_restarts(store: DeviceStore, opened: Opener) -> None:
    first = [store.identity.next_counter() for _ in range(3)]
    again = reopened(store, opened)

    assert [*first, again.identity.next_counter()] == [1, 2, 3, 4]


def test_trusted_state_is_replaced_as_a_whole(store: DeviceStore, opened: Opener) -> None:
    one = TrustedState({"root.json": b"1", "timestamp.json": b"t"}, 10, {"digits": 3, "x": 1})
    two = TrustedState({"root.json": b"2"}, 20, {"digits": 4}, frozenset({"c" * 64, "d" * 64}))
    store.trust.save(one)
    assert store.trust.load() == one

    store.trust.save(two)

    assert reopened(store, opened).trust.load() == two


def test_slots_and_installs_come_back_with_every_field(store: DeviceStore, opened: Opener) -> None:
    challenger = replace(SLOT, name="challenger", committed=None)
    store.installs.save_slot(replace(SLOT, committed=None))
    store.installs.save_slot(SLOT)
    store.installs.save_slot(challenger)
    store.installs.save_install(replace(INSTALL, state=State.FETCHING, candidate=None))
    store.installs.save_install(INSTALL)

    again = reopened(store, opened)

    assert list(again.installs.slots()) == [challenger, SLOT]
    assert list(again.installs.installs()) == [INSTALL]


def test_what_is_removed_is_gone(store: DeviceStore) -> None:
    store.installs.save_slot(SLOT)
    store.installs.save_install(INSTALL)

    for _ in range(2):  # again is harmless
        store.installs.remove_slot("digits", "champion")
        store.installs.remove_install("digits", "champion")

    assert (list(store.installs.slots()), list(store.installs.installs())) == ([], [])


def test_the_generation_never_decreases(store: DeviceStore, opened: Opener) -> None:
    store.installs.save_directive(b"seven", 7)

    with pytest.raises(StaleDirective, match="generation 6; 7 was accepted before"):
        store.installs.save_directive(b"six", 6)

    again = reopened(store, opened)
    assert (again.installs.directive(), again.installs.generation()) == (b"seven", 7)
    again.installs.save_directive(b"seven, again", 7)
    assert again.installs.directive() == b"seven, again"


def test_a_forgotten_directive_leaves_what_runs(store: DeviceStore, opened: Opener) -> None:
    store.installs.save_slot(SLOT)
    for _ in range(2):  # again is harmless
        store.installs.save_directive(b"seven", 7)
        store.installs.forget_directive()

    again = reopened(store, opened)
    assert (again.installs.directive(), again.installs.generation()) == (b"", 0)
    assert list(again.installs.slots()) == [SLOT]
    again.installs.save_directive(b"one", 1)


def test_quarantine_keeps_the_first_reason_until_it_is_lifted(
    store: DeviceStore, opened: Opener
) -> None:
    first = Quarantine("a" * 64, "digits", 3, "self-test-mismatch", "output 3", 1.5)
    store.installs.quarantine(first)
    store.installs.quarantine(Quarantine("a" * 64, "digits", 3, "crash-loop", "later", 2.5))
    earlier = Quarantine("c" * 64, "other", 1, "model-load", "no model", 0.5)
    store.installs.quarantine(earlier)
    again = reopened(store, opened)
    assert again.installs.quarantined("a" * 64) == first
    assert again.installs.quarantined("b" * 64) is None
    assert again.installs.quarantines() == [earlier, first]

    again.installs.lift_quarantine("a" * 64)

    assert again.installs.quarantined("a" * 64) is None
    assert again.installs.quarantines() == [earlier]


def test_quarantine_keeps_the_first_reason_of_the_highest_attempt(
    store: DeviceStore, opened: Opener
) -> None:
    first, second, third = (
        Quarantine("a" * 64, "digits", 3, f"code-{n}", f"detail {n}", float(n), attempt=n)
        for n in (1, 2, 3)
    )
    for failed in (second, first, replace(second, code="later")):
        store.installs.quarantine(failed)
        assert store.installs.quarantined("a" * 64) == second

    store.installs.quarantine(third)

    assert reopened(store, opened).installs.quarantines() == [third]
    assert [third.refuses("", attempt) for attempt in (1, 3, 4)] == [True, True, False]


def test_attempts_are_counted_by_rollout(store: DeviceStore, opened: Opener) -> None:
    failed = Quarantine("a" * 64, "digits", 3, "model-load", "no", 1.0, rollout="r1", attempt=3)
    store.installs.quarantine(failed)
    store.installs.quarantine(replace(failed, rollout="r2", attempt=1))
    assert store.installs.quarantined("a" * 64) == failed

    again = replace(failed, rollout="r2", attempt=2, detail="again")
    store.installs.quarantine(again)

    assert reopened(store, opened).installs.quarantined("a" * 64) == again
    assert [again.refuses("r2", attempt) for attempt in (1, 2, 3)] == [True, True, False]
    assert [again.refuses("r3", attempt) for attempt in (1, 2)] == [True, False]


def test_windows_are_kept_by_key(store: DeviceStore, opened: Opener) -> None:
    store.windows.checkpoint("digits/3", b"\x00one")
    store.windows.checkpoint("digits/3", b"\x00two")
    store.windows.checkpoint("other/1", b"")
    store.windows.discard("nothing")
    again = reopened(store, opened)
    assert dict(again.windows.checkpoints()) == {"digits/3": b"\x00two", "other/1": b""}

    again.windows.discard("digits/3")

    assert dict(again.windows.checkpoints()) == {"other/1": b""}


def test_a_transaction_is_kept_as_a_whole(store: DeviceStore, opened: Opener) -> None:
    with store.transaction():
        store.installs.save_slot(SLOT)
        store.trust.save(TrustedState({"root.json": b"1"}))
        store.spool.put("event", b"switched", 1)
        counter = store.identity.next_counter()

    again = reopened(store, opened)
    assert (list(again.installs.slots()), again.trust.load().metadata) == (
        [SLOT], {"root.json": b"1"},
    )  # fmt: skip
    assert (len(again.spool), again.identity.next_counter()) == (1, counter + 1)


def test_a_transaction_that_fails_leaves_nothing(store: DeviceStore, opened: Opener) -> None:
    before = store.spool.put("event", b"kept", 1)

    def fail_in_the_middle() -> None:
        with store.transaction():
            store.installs.save_slot(SLOT)
            store.trust.save(TrustedState({"root.json": b"1"}, 5, {"m": 1}, frozenset({"e" * 64})))
            store.spool.put("event", b"lost", 1)
            store.spool.forget(before)
            store.windows.checkpoint("w", b"w")
            store.installs.save_directive(b"nine", 9)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()

    again = reopened(store, opened)
    assert list(again.installs.slots()) == []
    assert again.trust.load() == TrustedState()
    assert [record.payload for record in again.spool.batch(9, 999)] == [b"kept"]
    assert dict(again.windows.checkpoints()) == {}
    assert again.installs.generation() == 0


def test_transactions_may_not_be_nested_and_leave_the_store_usable(store: DeviceStore) -> None:
    with pytest.raises(RuntimeError), store.transaction(), store.transaction():
        pass

    with store.transaction():
        store.installs.save_slot(SLOT)
    assert list(store.installs.slots()) == [SLOT]


def test_threads_share_a_store_and_wait_for_a_transaction(store: DeviceStore) -> None:
    inside, seen = threading.Event(), list[int]()

    def other() -> None:
        inside.wait(5)
        for _ in range(20):
            seen.append(store.identity.next_counter())

    thread = threading.Thread(target=other)
    thread.start()
    with store.transaction():
        mine = [store.identity.next_counter()]
        inside.set()
        mine += [store.identity.next_counter() for _ in range(20)]
    thread.join(10)

    assert mine == list(range(1, 22))
    assert seen == list(range(22, 42))


def test_a_closed_store_says_so(store: DeviceStore) -> None:
    store.close()
    store.close()

    with pytest.raises(StoreError, match="closed"):
        store.identity.load()


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
