"""Drift over a fleet of pumps, and what the controller makes of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import msgspec
import pytest

from controller.federated import actions as runs
from controller.federated.actions import Wish
from controller.federated.run import Run, RunState
from controller.federated.run_file import read_plan
from controller.fleet_config.applied import AppliedFleet
from controller.incident import actions as incidents
from controller.incident.incident import Incident, IncidentState
from controller.retraining.loop import RetrainingLoop
from protos.manifest import Role, read_manifest
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_store import MemoryStore
from tests.contracts.federated_values import RUN
from tests.controller.monitor.pumps import controller, registered, slot, stored
from tests.controller.rollout.world import HandClock, device

FLEET = """
[fleet]
name = "pumps"
selector = "all"

[[models]]
name = "pump"
version = "pump/1"

[[retraining]]
model = "pump"
retrain = "start"
share = 0.7
after = 60
rounds = 4

[retraining.strategy]
name = "FedTrimmedAvg"
beta = 0.2
"""


@dataclass
class Watch:
    """A controller that looks at its fleet, turn by turn."""

    store: MemoryStore
    blobs: MemoryControllerBlobs
    clock: HandClock = field(default_factory=HandClock)
    woken: int = 0

    def __post_init__(self) -> None:
        self.loop = RetrainingLoop(self.store, self.blobs, self.clock, 10.0, self._wake, "one")

    def turn(self, seconds: float) -> None:
        """One look, after so many seconds."""
        self.clock.at += seconds
        self.loop.turn()

    def states(self) -> dict[str, IncidentState]:
        """Of every incident."""
        with self.store.read() as tx:
            return {one.id: one.state for one in tx.incidents.all()}

    def told(self, incident: str) -> list[str]:
        """Its story."""
        with self.store.read() as tx:
            return [one.sentence for one in incidents.show(tx, incident).story]

    def tell(self, sequence: int, shifts: list[float]) -> None:
        """Every device tells a window."""
        with self.store.begin() as tx:
            tx.telemetry.add_windows(
                [stored(f"d{n}", sequence, shift=shift) for n, shift in enumerate(shifts)]
            )

    def runs(self) -> list[Run]:
        """All there are."""
        with self.store.read() as tx:
            return list(tx.runs.all())

    def _wake(self) -> None:
        self.woken += 1


def watching(shifts: list[float], fleet: str = "") -> Watch:
    store, blobs = controller([stored(f"d{n}", 1, shift=shift) for n, shift in enumerate(shifts)])
    with store.begin() as tx:
        for n in range(len(shifts)):
            tx.devices.put(device(f"d{n}", {}, {}))
        if fleet:
            tx.fleets.put(AppliedFleet("pumps", fleet, "0" * 64, 0.0, "ada"))
    return Watch(store, blobs)


ALL = [2.0] * 5


def test_a_world_that_has_changed_for_long_enough_opens_an_incident_with_a_proposal() -> None:
    watch = watching(ALL)
    watch.turn(0)
    watch.turn(599)
    assert (watch.states(), watch.runs()) == ({}, [])

    watch.turn(1)
    assert watch.states() == {"pump-i1": IncidentState.OPEN}
    assert watch.told("pump-i1")[0] == "5 of 5 devices see data unlike the reference"
    (run,) = watch.runs()
    assert (run.version, run.incident, run.state) == (1, "pump-i1", RunState.PROPOSED)
    assert run.reasons[0] == "5 of 5 devices have moved together"
    assert 'model = "pump/1"' in run.file
    assert watch.woken == 0

    watch.turn(1000)
    assert list(watch.states()) == ["pump-i1"]
    assert len(watch.runs()) == 1


def test_a_fleet_s_file_may_let_the_run_start_by_itself_and_says_how_it_goes() -> None:
    watch = watching(ALL, FLEET)
    watch.turn(0)
    watch.turn(60)

    (run,) = watch.runs()
    assert (run.state, run.rounds) == (RunState.RUNNING, 4)
    assert watch.woken == 1
    assert read_plan(run.file, "run").strategy.parameters() == {"beta": 0.2}


def test_a_run_that_can_t_start_by_itself_is_proposed_and_the_story_says_why() -> None:
    watch = watching(ALL, FLEET)
    with watch.store.begin() as tx:
        begun = runs.start(tx, Wish('[run]\nmodel = "pump/1"\n', "ada"), 1.0)
    watch.turn(0)
    watch.turn(60)

    assert {one.id: one.state for one in watch.runs()} == {
        begun.id: RunState.RUNNING,
        "pump-r2": RunState.PROPOSED,
    }
    assert any(line.startswith("the run can't start by itself") for line in watch.told("pump-i1"))
    assert watch.states() == {"pump-i1": IncidentState.OPEN}


def test_one_device_that_runs_a_newer_version_hides_nothing() -> None:
    watch = watching(ALL)
    with watch.store.begin() as tx:
        tx.telemetry.add_windows([stored("d4", 2, version=2)])
        for n in range(5):
            tx.devices.replace_slots(
                f"d{n}", [slot(f"d{n}", "pump", 2 if n == 4 else 1, running=True)]
            )
    watch.turn(0)
    watch.turn(600)
    assert watch.states() == {"pump-i1": IncidentState.OPEN}
    assert watch.runs()[0].version == 1


def test_few_devices_are_no_reason_however_long_it_lasts() -> None:
    watch = watching([2.0, 0.0, 0.0, 0.0, 0.0])
    for _ in range(3):
        watch.turn(1000)
    assert (watch.states(), watch.runs()) == ({}, [])


def test_what_passes_in_between_begins_anew() -> None:
    watch = watching(ALL)
    watch.turn(0)
    watch.tell(2, [0.0] * 5)
    watch.turn(500)
    watch.tell(3, ALL)
    watch.turn(100)
    watch.turn(599)
    assert watch.states() == {}
    watch.turn(1)
    assert watch.states() == {"pump-i1": IncidentState.OPEN}


def test_a_version_that_can_t_be_trained_opens_an_incident_for_people() -> None:
    watch = watching(ALL)
    with watch.store.begin() as tx:
        one = registered(1)
        manifest = read_manifest(one.manifest)
        files = {role: file for role, file in manifest.files.items() if role is not Role.TRAIN_STEP}
        bare = msgspec.structs.replace(manifest, files=files)
        tx.registry.put_version(replace(one, manifest=bare.encode()))
    watch.turn(0)
    watch.turn(600)
    assert watch.states() == {"pump-i1": IncidentState.OPEN}
    assert watch.runs() == []


def test_a_world_that_goes_back_ends_it_and_the_next_change_is_another_incident() -> None:
    watch = watching(ALL)
    watch.turn(0)
    watch.turn(600)
    began = 1 + int(watch.clock.now().timestamp())
    watch.tell(began, [0.0] * 5)
    watch.turn(10)
    assert watch.states() == {"pump-i1": IncidentState.RECOVERED}
    assert watch.told("pump-i1")[-1].startswith("recovered: the data of 5 devices together")

    watch.tell(began + 1, ALL)
    watch.turn(0)
    watch.turn(600)
    assert watch.states() == {"pump-i1": IncidentState.RECOVERED, "pump-i2": IncidentState.OPEN}


def test_one_that_somebody_closes_stays_closed() -> None:
    watch = watching(ALL)
    watch.turn(0)
    watch.turn(600)
    with watch.store.begin() as tx:
        incidents.close(tx, "pump-i1", "the lamps are mended", "ada", 1.0)
    with watch.store.read() as tx:
        assert tx.incidents.get("pump-i1") is not None
    assert watch.states() == {"pump-i1": IncidentState.CLOSED}
    assert "closed by ada: the lamps are mended" in watch.told("pump-i1")

    for _ in range(3):  # the same change again would be a run again, as often as it is closed
        watch.turn(1000)
    assert watch.states() == {"pump-i1": IncidentState.CLOSED}
    began = 1 + int(watch.clock.now().timestamp())
    watch.tell(began, [0.0] * 5)
    watch.turn(10)
    watch.tell(began + 1, ALL)
    watch.turn(0)
    watch.turn(600)
    assert watch.states() == {"pump-i1": IncidentState.CLOSED, "pump-i2": IncidentState.OPEN}


def test_of_two_controllers_one_looks() -> None:
    watch = watching(ALL)
    other = Watch(watch.store, watch.blobs, watch.clock)
    other.loop = RetrainingLoop(watch.store, watch.blobs, watch.clock, 10.0, other._wake, "two")
    watch.turn(0)
    other.turn(0)
    watch.turn(39)
    other.turn(0)
    assert other.loop._memory.since_ms == {}
    assert "pump" in watch.loop._memory.since_ms


def test_while_a_run_is_at_work_nobody_judges_the_data_for_its_incident() -> None:
    class Unread(MemoryControllerBlobs):
        def read(self, sha256: str, offset: int = 0, chunk: int = 262_144) -> Iterator[bytes]:
            raise AssertionError(f"{sha256} was read at {offset}, {chunk} at once")

    watch = watching(ALL)
    with watch.store.begin() as tx:
        tx.runs.put(replace(RUN, id="pump-r1", model="pump", incident="pump-i1"))
    open_ = Incident(
        id="pump-i1", model="pump", version=1, state=IncidentState.OPEN, opened_ms=1, run="pump-r1"
    )

    facts = incidents.gathered(watch.store, Unread(), open_, 2)

    assert (facts.before, facts.after) == (None, None)
    with pytest.raises(AssertionError, match="was read"):
        incidents.gathered(watch.store, Unread(), replace(open_, run=""), 2)
