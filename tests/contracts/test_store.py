"""What every store of the controller promises of its audit and its transactions."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.audit import Entry, broken_at
from controller.errors import StoreError
from controller.fleet_config.applied import AppliedFleet
from controller.store.store import Store, Transaction
from tests.contracts.stored import (
    DEVICE,
    DIRECTIVE,
    EVENT,
    MODEL,
    OPERATOR,
    PENDING,
    READING,
    REJECTIONS,
    REPORT,
    ROLLOUT,
    SLOT,
    TOKEN,
    VERSION,
    WANTED,
    WINDOW,
    Interrupted,
    window,
)

# --- Audit ----------------------------------------------------------------------------------------


def test_the_audit_chain_holds_and_is_read_in_pages(store: Store) -> None:
    with store.begin() as tx:
        assert tx.audit.last() is None
        assert list(tx.audit.records()) == []
    for number in range(5):
        with store.begin() as tx:
            tx.audit.append(Entry("ada", "model.approve", "digits/1", {"n": str(number)}), number)

    with store.begin() as tx:
        records = list(tx.audit.records())
        assert [record.sequence for record in records] == [1, 2, 3, 4, 5]
        assert broken_at(records) is None
        assert tx.audit.last() == records[-1]
        assert list(tx.audit.records(after=1, limit=2)) == records[1:3]
        assert list(tx.audit.records(after=5)) == []


def test_the_audit_of_a_failed_action_goes_with_it(store: Store) -> None:
    with store.begin() as tx:
        first = tx.audit.append(Entry("ada", "one", "x"), 1)
    with pytest.raises(Interrupted):
        audit_and_fail(store)

    with store.begin() as tx:
        third = tx.audit.append(Entry("ada", "three", "x"), 3)
        assert third.previous == first.digest
        assert broken_at(tx.audit.records()) is None


# --- Transactions ---------------------------------------------------------------------------------


def audit_and_fail(store: Store) -> None:
    with store.begin() as tx:
        tx.audit.append(Entry("ada", "two", "x"), 2)
        raise Interrupted


def write_everything_and_fail(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, counter=5, labels={}))
        tx.devices.touch("dev-1", 9.0, connected=True)
        tx.devices.replace_slots("dev-1", [SLOT])
        tx.tokens.put(TOKEN)
        tx.operators.put(OPERATOR)
        tx.registry.put_model(replace(MODEL, threshold=1))
        tx.registry.put_version(replace(VERSION, version=2))
        tx.registry.put_pending(PENDING)
        tx.registry.remove_alias("digits", "champion")
        tx.metadata.put("root", 1, b"one")
        tx.rollouts.put(ROLLOUT)
        tx.rollouts.remove_wanted("dev-1", "digits", "champion")
        tx.rollouts.put_directive(DIRECTIVE)
        tx.retention.expire(10_000, 100)
        tx.audit.put_rejections(REJECTIONS)
        tx.telemetry.add_windows([window(2)])
        tx.telemetry.add_events([EVENT])
        tx.telemetry.add_resources([READING])
        tx.telemetry.add_report(REPORT)
        tx.telemetry.advance("dev-1", "spool", 9, {"window": 1})
        tx.audit.append(Entry("ada", "x", "y"), 1)
        assert tx.leases.acquire("rollouts", "one", 20.0, 30.0)
        tx.leases.release("planning", "one")
        raise Interrupted


def contents(store: Store) -> list[object]:
    with store.begin() as tx:
        return [
            list(tx.devices.all()),
            list(tx.changes.since(0).devices),
            list(tx.devices.slots()),
            list(tx.tokens.all()),
            list(tx.operators.all()),
            list(tx.registry.models()),
            list(tx.registry.versions()),
            list(tx.registry.all_pending()),
            tx.registry.aliases("digits"),
            tx.metadata.current("root"),
            list(tx.rollouts.all()),
            list(tx.rollouts.wanted()),
            list(tx.rollouts.directives("dev-1")),
            list(tx.telemetry.windows("digits")),
            tx.telemetry.window_count(),
            list(tx.telemetry.events()),
            list(tx.telemetry.resources("dev-1", limit=9)),
            list(tx.telemetry.reports("dev-1")),
            tx.audit.rejections("dev-1", "report.replay"),
            tx.telemetry.stored_through("dev-1", "spool"),
            tx.telemetry.dropped("dev-1"),
            tx.audit.last(),
            [tx.leases.holder(name, 10.0) for name in ("rollouts", "planning")],
        ]


def test_a_failed_block_leaves_nothing_of_any_table_behind(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.registry.put_model(MODEL)
        tx.registry.put_version(VERSION)
        tx.registry.put_alias("digits", "champion", 1)
        tx.telemetry.add_windows([WINDOW])
        tx.rollouts.put_wanted(WANTED)
        tx.leases.acquire("planning", "one", 0.0, 30.0)
    before = contents(store)

    with pytest.raises(Interrupted):
        write_everything_and_fail(store)

    assert contents(store) == before
    with store.begin() as tx:
        tx.telemetry.add_windows([window(2)])
        assert tx.telemetry.window_count() == 2


def test_what_was_put_does_not_change_with_the_callers_dictionary(store: Store) -> None:
    labels = {"site": "berlin"}

    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, labels=labels))
        labels["site"] = "paris"

    with store.begin() as tx:
        found = tx.devices.get("dev-1")
        assert found is not None
        assert found.labels == {"site": "berlin"}


def test_writers_on_many_threads_lose_nothing_and_the_chain_holds(store: Store) -> None:
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait(timeout=10)
        for turn in range(5):
            with store.begin() as tx:
                known = tx.devices.get("dev-1") or DEVICE
                tx.devices.put(replace(known, counter=known.counter + 1))
                tx.audit.append(Entry(f"thread-{number}", "count", "dev-1"), turn)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    with store.begin() as tx:
        device = tx.devices.get("dev-1")
        assert device is not None
        assert device.counter == 40
        records = list(tx.audit.records())
        assert len(records) == 40
        assert broken_at(records) is None


def test_a_transaction_inside_a_transaction_is_refused_and_harms_neither(store: Store) -> None:
    with store.begin() as tx:
        tx.tokens.put(TOKEN)
        with pytest.raises(StoreError, match="inside"), store.begin():
            pass
        tx.operators.put(OPERATOR)

    with store.begin() as tx:
        assert tx.tokens.get("t1") == TOKEN
        assert tx.operators.get("ada") == OPERATOR


def test_a_table_can_not_be_written_once_its_transaction_has_ended(store: Store) -> None:
    with store.begin() as tx:
        tokens = tx.tokens

    with pytest.raises(StoreError):
        tokens.put(TOKEN)

    with store.begin() as tx:
        assert list(tx.tokens.all()) == []


def test_a_read_sees_what_was_committed_before_it_began(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.registry.put_model(MODEL)

    with store.read() as tx:
        assert list(tx.devices.all()) == [DEVICE]
        assert tx.registry.model("digits") == MODEL


@pytest.mark.parametrize(
    "write",
    [
        lambda tx: tx.devices.put(replace(DEVICE, counter=5)),
        lambda tx: tx.devices.touch("dev-1", 42.5, connected=True),
        lambda tx: tx.tokens.put(TOKEN),
        lambda tx: tx.rollouts.put_directive(DIRECTIVE),
        lambda tx: tx.rollouts.remove_wanted("dev-1", "digits", "champion"),
        lambda tx: tx.telemetry.add_windows([WINDOW]),
        lambda tx: tx.retention.expire(10_000, 100),
        lambda tx: tx.metadata.put("root", 1, b"one"),
        lambda tx: tx.audit.append(Entry("ada", "x", "y"), 1),
        lambda tx: tx.leases.acquire("rollouts", "one", 10.0, 30.0),
    ],
)
def test_a_read_writes_nothing(store: Store, write: Callable[[Transaction], object]) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.rollouts.put_wanted(WANTED)
        tx.telemetry.add_windows([window(2)])
    before = contents(store)

    with pytest.raises(StoreError), store.read() as tx:
        write(tx)

    assert contents(store) == before


def test_a_read_never_sees_half_of_a_transaction(store: Store) -> None:
    """Writers move one of two counters and then the other; readers must never find them apart."""
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.devices.put(replace(DEVICE, id="dev-2"))
    seen: list[tuple[int, int]] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            with store.read() as tx:
                first = tx.devices.get("dev-1")
                second = tx.devices.get("dev-2")
            assert first is not None
            assert second is not None
            seen.append((first.counter, second.counter))

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(1, 51):
        with store.begin() as tx:
            tx.devices.put(replace(DEVICE, counter=turn))
            tx.devices.put(replace(DEVICE, id="dev-2", counter=turn))
    done.set()
    for reader in readers:
        reader.join(timeout=30)

    assert seen
    assert [pair for pair in seen if pair[0] != pair[1]] == []


def test_a_read_inside_a_transaction_is_refused_and_harms_it_not(store: Store) -> None:
    with store.begin() as tx:
        tx.tokens.put(TOKEN)
        with pytest.raises(StoreError, match="inside"), store.read():
            pass

    with store.read() as tx:
        with pytest.raises(StoreError, match="inside"), store.begin():
            pass
        assert tx.tokens.get("t1") == TOKEN


def test_a_closed_store_says_so_and_may_be_closed_again(store: Store) -> None:
    store.close()
    store.close()

    with pytest.raises(StoreError, match="closed"), store.begin():
        pass
    with pytest.raises(StoreError, match="closed"), store.read():
        pass


def test_of_every_fleet_the_newest_file_is_kept(store: Store) -> None:
    first = AppliedFleet("meters", "a = 1 # ü\n", "a" * 64, 1.5, "ada")
    other = AppliedFleet("cameras", "", "b" * 64, 2.0, "bob")
    newer = replace(first, text="a = 2\n", sha256="c" * 64, applied_at=3.25, applied_by="bob")
    with store.begin() as tx:
        assert tx.fleets.get("meters") is None
        tx.fleets.put(first)
        tx.fleets.put(other)
    with store.read() as tx:
        assert tx.fleets.get("meters") == first
    with store.begin() as tx:
        tx.fleets.put(newer)
    with store.read() as tx:
        assert tx.fleets.all() == [other, newer]
        with pytest.raises(StoreError):
            tx.fleets.put(first)
