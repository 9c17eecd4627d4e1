"""What every ``DeviceStore`` promises."""

import threading
from dataclasses import replace

import msgspec
import pytest

from agent.errors import StaleDirective, StoreError
from agent.federated.record import Journal
from agent.install.machine import State
from agent.store.device_store import DeviceStore, Quarantine, TrustedState
from tests.contracts.device_stores import IDENTITY, INSTALL, JOURNAL, SLOT, Opener, reopened


@pytest.fixture
def store(opened: Opener) -> DeviceStore:
    return opened()


def test_a_new_store_knows_nothing(store: DeviceStore) -> None:
    assert store.identity.load() is None
    assert store.trust.load() == TrustedState()
    assert (store.installs.directive(), store.installs.generation()) == (b"", 0)
    assert (list(store.installs.slots()), list(store.installs.installs())) == ([], [])
    assert (len(store.spool), dict(store.spool.dropped())) == (0, {})
    assert dict(store.windows.checkpoints()) == {}
    assert store.journal.load() == Journal()


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
    challenger = msgspec.structs.replace(SLOT, name="challenger", committed=None)
    store.installs.save_slot(msgspec.structs.replace(SLOT, committed=None))
    store.installs.save_slot(SLOT)
    store.installs.save_slot(challenger)
    store.installs.save_install(
        msgspec.structs.replace(INSTALL, state=State.FETCHING, candidate=None)
    )
    store.installs.save_install(INSTALL)

    again = reopened(store, opened)

    assert list(again.installs.slots()) == [challenger, SLOT]
    assert list(again.installs.installs()) == [INSTALL]


def test_the_journal_comes_back_with_every_field(store: DeviceStore, opened: Opener) -> None:
    store.journal.save(msgspec.structs.replace(JOURNAL, task=None, carries=()))
    store.journal.save(JOURNAL)

    assert reopened(store, opened).journal.load() == JOURNAL


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
            store.journal.save(JOURNAL)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()

    again = reopened(store, opened)
    assert list(again.installs.slots()) == []
    assert again.trust.load() == TrustedState()
    assert [record.payload for record in again.spool.batch(9, 999)] == [b"kept"]
    assert dict(again.windows.checkpoints()) == {}
    assert again.installs.generation() == 0
    assert again.journal.load() == Journal()


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
