import asyncio
import dataclasses
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.access.operator import Role
from controller.fleet.device import DeviceStatus, SlotState
from controller.registry.version import Model
from controller.rollout.rollout import Rollout, State
from controller.store.sql import SqlStore
from controller.web.metrics import MAX_SLOT_SERIES
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
        tx.rollouts.put(Rollout("r1", "digits", 1, "all", State.FAILED, START, "ada"))
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
    assert value(found, "muster_rollouts", state="failed") == 1
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
