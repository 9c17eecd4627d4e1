import asyncio
import dataclasses
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.monitor.finding import Verdict
from controller.access.operator import Role
from controller.fleet.device import DeviceStatus, SlotState
from controller.registry.version import Model
from controller.registry.version import State as VersionState
from controller.rollout.rollout import Rollout, State
from controller.store.sql import SqlStore
from controller.telemetry.record import StoredWindow
from controller.web.metrics import FRESH_SECONDS, MAX_SLOT_SERIES
from protos.v1 import telemetry_pb2
from simulations.memory_store import MemoryStore
from tests.controller.rollout.world import START, device, registered
from tests.controller.web.api import Api, running

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def slot(name: str, version: int, *, running: bool = True, state: str = "committed") -> SlotState:
    return SlotState(
        name, "digits", f"slot{version}", version, running, state, "", "", 1, 1, 1, START
    )


async def test_the_metrics_are_sums_over_the_fleet(api: Api) -> None:
    away = {"connected": False}
    with api.store.begin() as tx:
        tx.devices.put(device("pi-01", {}, {}))
        tx.devices.put(dataclasses.replace(device("pi-02", {}, {}), **away))  # type: ignore[arg-type]
        gone = dataclasses.replace(device("pi-03", {}, {}), status=DeviceStatus.REVOKED)
        tx.devices.put(gone)
        tx.devices.replace_slots("pi-01", [slot("pi-01", 1)])
        tx.devices.replace_slots(
            "pi-02", [slot("pi-02", 1), slot("pi-02", 2, running=False, state="<b>odd</b>")]
        )
        tx.rollouts.put(Rollout("r1", "digits", 1, "all", State.ABORTED, START, "ada"))
        tx.telemetry.advance("pi-01", "s", 1, {"window": 3, "sn\xf6w": 2})
    answer = await api.send("GET", "/metrics", Role.VIEWER)
    found = samples(answer.text)

    assert value(found, "muster_devices", presence="online") == 1
    assert value(found, "muster_devices", presence="offline") == 1
    assert value(found, "muster_devices", presence="stale") == 0
    labels = {"model": "digits", "version": "1", "state": "committed", "running": "yes"}
    assert value(found, "muster_slots", **labels) == 2
    labels = {"model": "digits", "version": "2", "state": "other", "running": "no"}
    assert value(found, "muster_slots", **labels) == 1
    assert value(found, "muster_rollouts", state="aborted") == 1
    assert value(found, "muster_rollouts", state="running") == 0
    assert value(found, "muster_windows_stored") == 0
    assert value(found, "muster_records_dropped", kind="window") == 3
    assert value(found, "muster_records_dropped", kind="other") == 2
    assert value(found, "muster_audit_records") > 0
    assert "pi-01" not in answer.text


async def test_a_device_that_names_very_much_does_not_blow_the_metrics_up(api: Api) -> None:
    with api.store.begin() as tx:
        tx.devices.put(device("pi-01", {}, {}))
        many = [slot("pi-01", version) for version in range(1, MAX_SLOT_SERIES + 100)]
        tx.devices.replace_slots("pi-01", many)
    found = samples((await api.send("GET", "/metrics")).text)
    slots = {labels: count for (name, labels), count in found.items() if name == "muster_slots"}

    assert len(slots) == MAX_SLOT_SERIES + 1
    assert sum(slots.values()) == len(many)


def window(name: str, number: int, version: int, **told: int) -> StoredWindow:
    ended_ms = int(1000 * START) - told.pop("ago_ms", 0)
    return StoredWindow(
        device=name,
        spool="s",
        sequence=number,
        model="digits",
        version=version,
        profile_sha256="p" * 64,
        window_id=str(number),
        started_ms=0,
        ended_ms=ended_ms,
        rows=1,
        payload=b"no window at all: nobody needs it",
        verdict=told.pop("verdict", telemetry_pb2.VERDICT_OK),
        **told,
    )


async def test_the_metrics_say_how_the_newest_windows_judge_and_what_was_asked(api: Api) -> None:
    drift, bad = telemetry_pb2.VERDICT_DRIFT, telemetry_pb2.VERDICT_BAD_DATA
    with api.store.begin() as tx:
        for name in ("pi-01", "pi-02", "pi-03", "pi-04"):
            tx.devices.put(device(name, {}, {}))
        gone = dataclasses.replace(device("pi-05", {}, {}), status=DeviceStatus.REVOKED)
        tx.devices.put(gone)
        tx.registry.put_model(Model("digits", START, 1))
        for version in (1, 2):
            tx.registry.put_version(registered("digits", version))
        tx.registry.put_version(registered("digits", 3, VersionState.RECALLED))
        tx.telemetry.add_windows(
            [
                window("pi-01", 1, 1, requests=100, verdict=bad, ago_ms=60_000),
                window("pi-01", 2, 2, requests=10, failed=1, verdict=drift),
                window("pi-02", 1, 1, requests=5, refused=2),
                window("pi-03", 1, 3, requests=7),
                window("pi-04", 1, 1, requests=7, ago_ms=90_000_000),
                window("pi-05", 1, 1, requests=7),
            ]
        )
    found = samples((await api.send("GET", "/metrics")).text)

    drifting = {
        (labels["version"], labels["verdict"]): count
        for name, of, count in ((*key, count) for key, count in found.items())
        if name == "muster_drift_devices" and (labels := dict(of))
    }
    assert {key: count for key, count in drifting.items() if count} == {
        ("1", "ok"): 1,
        ("2", "drift"): 1,
    }
    assert len(drifting) == 2 * len(Verdict)
    assert value(found, "muster_newest_requests", model="digits") == 15
    assert value(found, "muster_newest_failed", model="digits") == 1
    assert value(found, "muster_newest_refused", model="digits") == 2


async def test_the_metrics_are_made_once_in_a_while_however_often_they_are_asked_for(
    api: Api,
) -> None:
    assert value(samples((await api.send("GET", "/metrics")).text), "muster_windows_stored") == 0
    with api.store.begin() as tx:
        tx.telemetry.add_windows([window("pi-01", 1, 1)])
    api.clock.at += FRESH_SECONDS - 1
    again = samples((await api.send("GET", "/metrics")).text)
    api.clock.at += 1
    fresh = samples((await api.send("GET", "/metrics")).text)

    assert value(again, "muster_windows_stored") == 0
    assert value(fresh, "muster_windows_stored") == 1


async def test_the_metrics_ask_for_a_token_unless_they_are_open(tmp_path: Path) -> None:
    async with running(MemoryStore(), tmp_path / "closed") as closed:
        assert (await closed.refusal("GET", "/metrics", None))[:2] == (401, "not-authenticated")
    async with running(MemoryStore(), tmp_path / "open", open_metrics=True) as opened:
        assert (await opened.send("GET", "/metrics", None)).status_code == 200


async def test_health_needs_no_token(api: Api) -> None:
    assert (await api.send("GET", "/healthz", None)).json() == {"status": "ok"}
    assert (await api.send("GET", "/readyz", None)).json() == {
        "status": "ok",
        "image_metadata": "signed",
    }


@pytest.mark.parametrize(
    "path",
    [
        "audit",
        "devices",
        "devices/pi-01",
        "events",
        "operators",
        "rollouts",
        "rollouts/preview?version=digits/1",
        "pending",
        "tokens",
        "/metrics",
        "/readyz",
    ],
)
async def test_who_only_reads_does_not_wait_for_who_writes(tmp_path: Path, path: str) -> None:
    store = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    async with running(store, tmp_path) as api:
        with store.begin() as tx:
            tx.devices.put(device("pi-01", {}, {}))
            tx.registry.put_model(Model("digits", START, 1))
            tx.registry.put_version(registered("digits", 1))
        with store.begin() as tx:
            tx.devices.put(device("pi-02", {}, {}))
            async with asyncio.timeout(10):
                answer = await api.send("GET", path)
    store.close()

    assert answer.status_code == 200, answer.text
    assert "pi-02" not in answer.text
