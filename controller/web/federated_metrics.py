"""Metrics of federated runs, their candidates and incidents: of each model its newest run.

No label has more values than there are models, runs at work, states and codes: what devices give as
a reason counts as "other" if Muster does not know it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from agent import errors as agent_errors
from agent.errors import AgentError
from agent.federated import eligibility
from agent.federated import errors as training_errors
from controller.federated.coordinator import admission
from controller.federated.coordinator.reach import LEFT, NO_LINK
from controller.federated.exchange import PhaseRecord
from controller.federated.nodes import BUSY
from controller.federated.readiness import DeviceReadiness
from controller.federated.run import Run, RunState
from controller.fleet.device import Device, DeviceStatus
from controller.incident.incident import Incident, IncidentState
from controller.registry.version import State as VersionState
from controller.store.store import Transaction

READY: Final = "ready"
AWAY: Final = "away"
OTHER: Final = "other"
PHASES: Final = 1_000
"""So many closed phases of a run are counted, the newest: a scrape reads no more, however long a run is."""
OUTCOMES: Final = ("admitted", "declined", "refused", "surplus", "silent")

_NOT_BEGUN: Final = frozenset({RunState.PROPOSED, RunState.DISMISSED})
_CODES: Final = frozenset(
    {
        BUSY,
        NO_LINK,
        LEFT,
        *map(str, eligibility.Code),
        *map(str, admission.Code),
        *(
            one.code
            for module in (agent_errors, training_errors)
            for one in vars(module).values()
            if isinstance(one, type) and issubclass(one, AgentError) and hasattr(one, "code")
        ),
    }
)


Told = tuple[Run, Sequence[PhaseRecord]]


@dataclass(frozen=True, slots=True)
class Learning:
    """What there is of it in the store.

    Attributes:
        runs: all.
        at_work: those, each with its newest closed phases.
        newest: of each model the run that was begun last, with its newest closed phases.
        readiness: what active devices have said last, by model.
        candidates: the states of the versions that came of runs.
        incidents: all.
    """

    runs: Sequence[Run]
    at_work: Sequence[Told]
    newest: Sequence[Told]
    readiness: Mapping[str, Sequence[tuple[DeviceReadiness, Device]]]
    candidates: Sequence[VersionState]
    incidents: Sequence[Incident]


def read_learning(tx: Transaction, devices: Iterable[Device]) -> Learning:
    """As the transaction has it."""
    runs = tx.runs.all()
    newest = {run.model: run for run in reversed(runs) if run.state not in _NOT_BEGUN}
    at_work = tx.runs.at_work()
    phases = {one.id: tx.runs.newest_phases(one.id, PHASES) for one in (*newest.values(), *at_work)}
    active = {one.id: one for one in devices if one.status is DeviceStatus.ACTIVE}
    readiness = {
        model.name: [
            (one, active[one.device])
            for one in tx.tasks.readiness(model.name)
            if one.device in active
        ]
        for model in tx.registry.models()
    }
    states = {(one.model, one.version): one.state for one in tx.registry.versions()}
    made = {(run.model, run.candidate) for run in runs if run.candidate is not None}
    return Learning(
        runs,
        [(run, phases[run.id]) for run in at_work],
        [(newest[model], phases[newest[model].id]) for model in sorted(newest)],
        {model: told for model, told in readiness.items() if told},
        [states[one] for one in made if one in states],
        tx.incidents.all(),
    )


def learning_metrics(learning: Learning) -> Iterator[Metric]:
    """All of them."""
    yield _states("muster_federated_runs", "Federated runs by state.", learning.runs, RunState)
    yield from _at_work(learning.at_work)
    yield _readiness(learning.readiness)
    yield from _replies(learning.newest)
    yield from _cost(learning.newest)
    made = Counter(map(str, learning.candidates))
    family = GaugeMetricFamily(
        "muster_federated_candidates", "Versions that came of runs, by state.", labels=["state"]
    )
    for state in sorted(VersionState):
        family.add_metric([state], made[state])
    yield family
    yield _states("muster_incidents", "Incidents by state.", learning.incidents, IncidentState)
    yield _opened(learning.incidents)


def _states(
    name: str, text: str, found: Iterable[Run] | Iterable[Incident], states: Iterable[str]
) -> Metric:
    counts = Counter(str(one.state) for one in found)
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state in sorted(map(str, states)):
        family.add_metric([state], counts[state])
    return family


def _at_work(at_work: Iterable[Told]) -> Iterator[Metric]:
    labels = ["model", "run"]
    done = GaugeMetricFamily(
        "muster_federated_round", "Rounds that a run at work has done.", labels=labels
    )
    wanted = GaugeMetricFamily(
        "muster_federated_rounds", "Rounds that a run at work shall have.", labels=labels
    )
    moved = GaugeMetricFamily(
        "muster_federated_moved_timestamp_seconds",
        "When the newest phase of a run at work ended; when it was started, before the first.",
        labels=labels,
    )
    for run, phases in at_work:
        key = [run.model, run.id]
        done.add_metric(key, run.round)
        wanted.add_metric(key, run.rounds)
        last = max([run.started_ms, *(one.ended_ms for one in phases[-1:])])
        moved.add_metric(key, last / 1000)
    yield from (done, wanted, moved)


def _readiness(told: Mapping[str, Sequence[tuple[DeviceReadiness, Device]]]) -> Metric:
    family = GaugeMetricFamily(
        "muster_federated_devices",
        "Active devices that run a version of the model that can be trained: ready, away (without a "
        "link), or why they would not train now.",
        labels=["model", "readiness"],
    )
    for model, found in sorted(told.items()):
        counts = Counter(_standing(one, device) for one, device in found)
        for standing in sorted({READY, AWAY, *counts}):
            family.add_metric([model, standing], counts[standing])
    return family


def _standing(told: DeviceReadiness, device: Device) -> str:
    if not device.connected:
        return AWAY
    return READY if told.eligible else _known(told.reason)


def _known(code: str) -> str:
    return code if code in _CODES else OTHER


def _replies(newest: Iterable[Told]) -> Iterator[Metric]:
    outcomes = GaugeMetricFamily(
        "muster_federated_replies",
        f"Devices asked in the model's newest run, in its newest {PHASES:,} closed phases, by what came "
        "of it.",
        labels=["model", "outcome"],
    )
    reasons = GaugeMetricFamily(
        "muster_federated_reasons",
        "Of muster_federated_replies those that were declined, refused or silent, by reason.",
        labels=["model", "reason"],
    )
    late = GaugeMetricFamily(
        "muster_federated_late",
        "Of the silent in muster_federated_replies those that replied after all.",
        labels=["model"],
    )
    for run, phases in newest:
        for outcome in OUTCOMES:
            count = sum(getattr(one, outcome) for one in phases)
            outcomes.add_metric([run.model, outcome], count)
        why: Counter[str] = Counter()
        for one in phases:
            for code, count in one.reasons.items():
                why[_known(code)] += count
        for reason, count in sorted(why.items()):
            reasons.add_metric([run.model, reason], count)
        late.add_metric([run.model], sum(one.late for one in phases))
    yield from (outcomes, reasons, late)


def _cost(newest: Iterable[Told]) -> Iterator[Metric]:
    size = GaugeMetricFamily(
        "muster_federated_bytes",
        f"Bytes of the model's newest run, in its newest {PHASES:,} closed phases: up, replies as they "
        "came; down, what devices had to fetch.",
        labels=["model", "direction"],
    )
    lasted = GaugeMetricFamily(
        "muster_federated_phase_seconds",
        "How long the newest closed phase of each kind took, of the model's newest run.",
        labels=["model", "phase"],
    )
    for run, phases in newest:
        size.add_metric([run.model, "up"], sum(one.bytes_up for one in phases))
        size.add_metric([run.model, "down"], sum(one.bytes_down for one in phases))
        for phase, one in sorted({one.phase: one for one in phases}.items()):
            lasted.add_metric([run.model, phase], (one.ended_ms - one.began_ms) / 1000)
    yield from (size, lasted)


def _opened(incidents: Iterable[Incident]) -> Metric:
    family = GaugeMetricFamily(
        "muster_incident_opened_timestamp_seconds",
        "When the model's incident was opened that has not ended.",
        labels=["model", "state"],
    )
    for one in sorted(incidents, key=lambda one: one.model):
        if not one.ended_ms:
            family.add_metric([one.model, one.state], one.opened_ms / 1000)
    return family
