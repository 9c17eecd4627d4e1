"""What an operator is called for, as Prometheus reads it: runs, readiness, replies and incidents."""

import dataclasses
from dataclasses import replace

from controller.federated.run import RunState
from controller.federated.task import Phase
from controller.fleet.device import DeviceStatus
from controller.incident.incident import Incident, IncidentState
from controller.registry.version import Model
from controller.registry.version import State as VersionState
from controller.web.federated_metrics import PHASES
from tests.contracts.federated_values import PHASE, READY, RUN
from tests.controller.rollout.world import START, device, registered
from tests.controller.web.api import Api
from tests.controller.web.test_pages import Samples, samples, value

SECOND = replace(RUN, id="digits-r2", started_ms=2**41 - 5_000, created_ms=RUN.created_ms + 1)


async def scraped(api: Api) -> tuple[Samples, str]:
    text = (await api.send("GET", "/metrics")).text
    return samples(text), text


def series(found: Samples, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(of for _, of in sorted(labels)): count
        for (one, labels), count in found.items()
        if one == name
    }


async def test_a_controller_without_runs_has_every_state_and_no_series_of_models(api: Api) -> None:
    found, text = await scraped(api)

    assert series(found, "muster_federated_runs") == {(one.value,): 0 for one in RunState}
    assert series(found, "muster_incidents") == {(one.value,): 0 for one in IncidentState}
    assert series(found, "muster_federated_candidates") == {(one.value,): 0 for one in VersionState}
    assert 'model="' not in text


async def test_runs_count_by_state_and_those_at_work_say_how_far_they_are(api: Api) -> None:
    with api.store.begin() as tx:
        tx.runs.put(replace(RUN, state=RunState.FAILED))
        tx.runs.put(replace(SECOND, round=2))
        tx.runs.put(replace(SECOND, id="wine-r1", model="wine", state=RunState.STOPPING))
        tx.runs.put(replace(SECOND, id="wine-r2", model="wine", state=RunState.PROPOSED))
        tx.runs.add_phase("digits-r2", PHASE)
    found, _ = await scraped(api)

    assert value(found, "muster_federated_runs", state="failed") == 1
    assert value(found, "muster_federated_runs", state="running") == 1
    assert value(found, "muster_federated_runs", state="finished") == 0
    assert series(found, "muster_federated_round") == {
        ("digits", "digits-r2"): 2,
        ("wine", "wine-r1"): 0,
    }
    assert value(found, "muster_federated_rounds", model="digits", run="digits-r2") == 5
    assert series(found, "muster_federated_moved_timestamp_seconds") == {
        ("digits", "digits-r2"): PHASE.ended_ms / 1000,
        ("wine", "wine-r1"): SECOND.started_ms / 1000,
    }


async def test_of_each_model_the_newest_run_says_what_was_asked_and_what_it_cost(api: Api) -> None:
    odd = {f"reason-{number}": 1 for number in range(500)}
    judged = replace(PHASE, step=2, phase=Phase.EVALUATE, ended_ms=PHASE.began_ms + 2_000, late=1)
    with api.store.begin() as tx:
        tx.runs.put(replace(RUN, state=RunState.FINISHED))
        tx.runs.add_phase("digits-r1", replace(PHASE, refused=1_000))
        tx.runs.put(SECOND)
        tx.runs.add_phase("digits-r2", replace(PHASE, began_ms=PHASE.ended_ms - 9_000))
        tx.runs.add_phase(
            "digits-r2", replace(judged, reasons={"norm": 2, "no-link": 1, "too-late": 1, **odd})
        )
        tx.runs.put(replace(SECOND, id="digits-r3", state=RunState.PROPOSED, created_ms=2**42))
    found, _ = await scraped(api)

    assert series(found, "muster_federated_replies") == {
        ("digits", "admitted"): 6,
        ("digits", "declined"): 2,
        ("digits", "refused"): 2,
        ("digits", "surplus"): 0,
        ("digits", "silent"): 2,
    }
    assert series(found, "muster_federated_reasons") == {
        ("digits", "busy"): 1,
        ("digits", "no-link"): 1,
        ("digits", "norm"): 3,
        ("digits", "other"): 500,
        ("digits", "too-late"): 1,
    }
    assert value(found, "muster_federated_late", model="digits") == 1
    assert value(found, "muster_federated_bytes", model="digits", direction="up") == 1_400
    assert value(found, "muster_federated_bytes", model="digits", direction="down") == 2**34
    assert series(found, "muster_federated_phase_seconds") == {
        ("digits", "train"): 9,
        ("digits", "evaluate"): 2,
    }


async def test_of_a_long_run_the_newest_phases_count(api: Api) -> None:
    with api.store.begin() as tx:
        tx.runs.put(SECOND)
        for step in range(1, PHASES + 3):
            tx.runs.add_phase("digits-r2", replace(PHASE, step=step, late=int(step <= 5)))
    found, _ = await scraped(api)

    assert value(found, "muster_federated_late", model="digits") == 3
    assert value(found, "muster_federated_bytes", model="digits", direction="up") == (
        PHASES * PHASE.bytes_up
    )


async def test_devices_are_counted_by_whether_they_would_train_now(api: Api) -> None:
    told = {
        "pi-01": replace(READY, device="pi-01"),
        "pi-02": replace(READY, device="pi-02", eligible=False, reason="on-battery"),
        "pi-03": replace(READY, device="pi-03", eligible=False, reason="the-moon-is-full"),
        "pi-04": replace(READY, device="pi-04"),
        "pi-05": replace(READY, device="pi-05"),
        "pi-06": replace(READY, device="pi-06", model="a-model-of-its-own"),
    }
    changed = {"pi-04": {"connected": False}, "pi-05": {"status": DeviceStatus.REVOKED}}
    with api.store.begin() as tx:
        tx.registry.put_model(Model("digits", START, 1))
        tx.registry.put_model(Model("wine", START, 1))
        for name, one in told.items():
            tx.devices.put(dataclasses.replace(device(name, {}, {}), **changed.get(name, {})))  # type: ignore[arg-type]
            tx.tasks.replace_readiness(name, [one])
    found, text = await scraped(api)

    assert series(found, "muster_federated_devices") == {
        ("digits", "ready"): 1,
        ("digits", "on-battery"): 1,
        ("digits", "other"): 1,
        ("digits", "away"): 1,
    }
    assert "pi-0" not in text
    assert "moon" not in text


async def test_candidates_count_by_state_and_open_incidents_have_an_age(api: Api) -> None:
    opened = Incident(
        id="digits-i2", model="digits", version=1, state=IncidentState.DECIDING, opened_ms=7_000
    )
    with api.store.begin() as tx:
        tx.registry.put_model(Model("digits", START, 1))
        tx.registry.put_version(registered("digits", 1))
        tx.registry.put_version(registered("digits", 2, VersionState.VALIDATED))
        tx.runs.put(replace(RUN, state=RunState.FINISHED, candidate=2))
        tx.incidents.put(opened)
        ended = {"state": IncidentState.RECOVERED, "ended_ms": 5_000}
        tx.incidents.put(replace(opened, id="digits-i1", **ended))  # type: ignore[arg-type]
    found, _ = await scraped(api)

    assert value(found, "muster_federated_candidates", state="validated") == 1
    assert value(found, "muster_federated_candidates", state="published") == 0
    assert value(found, "muster_incidents", state="recovered") == 1
    assert series(found, "muster_incident_opened_timestamp_seconds") == {("digits", "deciding"): 7}
