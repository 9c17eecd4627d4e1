"""Reports are signed and spooled in one transaction, and the sender is woken."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.identity.keys import generate_key, public_key, signer, verifier
from agent.install.record import Deployed, Install, Slot
from agent.install.report import report as build_report
from agent.store.device_store import DeviceStore
from agent.store.sqlite_store import SqliteStore
from agent.telemetry.actions import Reporter
from protos.documents import Report
from protos.envelope import unseal
from protos.v1 import telemetry_pb2
from simulations.memory_device_store import MemoryDeviceStore

KEY = generate_key()
NOW = datetime(2030, 1, 1, tzinfo=UTC)


class StandingClock(SystemClock):
    def now(self) -> datetime:
        return NOW


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DeviceStore]:
    opened: DeviceStore
    opened = MemoryDeviceStore() if request.param == "memory" else SqliteStore(tmp_path)
    yield opened
    opened.close()


class Woken:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def build(
    *,
    counter: int,
    generation: int,
    reported_at: int,
    slots: Sequence[Slot],
    installs: Sequence[Install],
) -> Report:
    return build_report(
        device="dev-1",
        agent_version="1",
        loaded={("digits", "champion"): "b" * 64},
        counter=counter,
        generation=generation,
        reported_at=reported_at,
        slots=slots,
        installs=installs,
    )


def spooled(store: DeviceStore) -> list[telemetry_pb2.Record]:
    return [telemetry_pb2.Record.FromString(one.payload) for one in store.spool.batch(99, 10**6)]


def test_a_report_of_the_slots_is_signed_by_the_device_and_spooled(store: DeviceStore) -> None:
    version = Deployed("digits", 3, "a" * 64, "b" * 64, 3, 2)
    store.installs.save_slot(Slot("digits", "champion", active=version, committed=version))
    store.installs.save_directive(b"directive", 7)
    woken = Woken()

    counter = Reporter(store, signer(KEY), build, StandingClock(), woken).report()

    (record,) = spooled(store)
    envelope = record.report.SerializeToString()
    told = unseal(envelope, Report, [verifier(public_key(KEY))])
    assert (told.device, told.counter, told.generation) == ("dev-1", counter, 7)
    assert told.reported_at == int(NOW.timestamp())
    assert [(one.version, one.model_sha256) for one in told.running] == [(3, "b" * 64)]
    assert record.recorded_ms == int(NOW.timestamp()) * 1000
    assert woken.times == 1


def test_counters_only_grow(store: DeviceStore) -> None:
    reporter = Reporter(store, signer(KEY), build, StandingClock(), Woken())

    assert [reporter.report() for _ in range(3)] == [1, 2, 3]


def test_a_report_that_can_not_be_built_leaves_nothing_behind(store: DeviceStore) -> None:
    def broken(
        *,
        counter: int,
        generation: int,
        reported_at: int,
        slots: Sequence[Slot],
        installs: Sequence[Install],
    ) -> Report:
        raise ArithmeticError

    woken = Woken()
    with pytest.raises(ArithmeticError):
        Reporter(store, signer(KEY), broken, StandingClock(), woken).report()

    assert len(store.spool) == 0
    assert store.identity.next_counter() == 1
    assert woken.times == 0


def test_events_are_spooled_with_what_a_person_would_ask_next(store: DeviceStore) -> None:
    woken = Woken()

    Reporter(store, signer(KEY), build, StandingClock(), woken).event(
        "install.failed",
        "error",
        model="digits",
        version=3,
        code="hash-mismatch",
        detail="x" * 9_000,
        fields={"free": "12"},
    )

    (record,) = spooled(store)
    assert record.event.name == "install.failed"
    assert record.event.code == "hash-mismatch"
    assert record.event.fields == {"free": "12"}
    assert len(record.event.detail) == 2_000
    assert woken.times == 1
