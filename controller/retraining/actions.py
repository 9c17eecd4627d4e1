"""Looks at every model that devices run, and opens an incident where its world has changed; blocks."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.inference.deployments import CHAMPION
from controller.audit import Entry
from controller.errors import ControllerError, InvalidInput
from controller.federated import actions as runs
from controller.federated.actions import Wish
from controller.fleet.device import DeviceStatus
from controller.fleet_config.reading import BadFleetFile, read_fleet
from controller.incident.actions import watched
from controller.incident.incident import Incident, IncidentState
from controller.incident.story import Watched, found
from controller.registry.version import State
from controller.retraining.proposal import (
    Act,
    Decision,
    RetrainPolicy,
    Situation,
    Why,
    decided,
    has_moved,
    run_file,
)
from controller.store.blob_store import BlobStore
from controller.store.store import Store, Transaction
from protos.manifest import Role, read_manifest

ACTOR = "muster"
"""Who proposes, in the audit record."""

log = logging.getLogger(__name__)


@dataclass
class Memory:
    """What a controller remembers between turns; a restart only makes it wait anew.

    Attributes:
        since_ms: by model, since when its data have moved over most devices.
        files: fleets' files that were read, by their digest.
        answered: by model, the version whose change has had its incident: until its data were as in
            the reference again, another would be of the same change.
    """

    since_ms: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    files: dict[str, tuple[RetrainPolicy, ...]] = field(default_factory=dict)


def policies(tx: Transaction, memory: Memory) -> Mapping[str, RetrainPolicy]:
    """What holds for each model that has a published version; what no file names is only proposed."""
    said: dict[str, RetrainPolicy] = {}
    applied = tx.fleets.all()
    memory.files = {
        one.sha256: memory.files.get(one.sha256) or _read(one.text, one.name) for one in applied
    }
    for one in applied:
        said.update({policy.model: policy for policy in memory.files[one.sha256]})
    published = {one.model for one in tx.registry.versions() if one.state is State.PUBLISHED}
    return {model: said.get(model, RetrainPolicy(model)) for model in sorted(published)}


def look(
    store: Store,
    blobs: BlobStore,
    policy: RetrainPolicy,
    memory: Memory,
    now: float,
) -> Decision | None:
    """Looks at one model, and acts; None where no device has told anything of it.

    Raises:
        StoreError: nothing was written.
        InvalidInput: its windows can't be read.
    """
    with store.read() as tx:
        running = devices_by_version(tx, policy.model)
    version = max(running, key=lambda one: (running[one], one), default=None)
    told = watched(store, blobs, policy.model, version)
    if told is None:
        return None
    seen = replace(told, running=running[told.version])
    now_ms = int(now * 1000)
    with store.read() as tx:
        _remember(memory, policy, seen, now_ms, is_open=_is_open(tx, policy.model))
        situation = _situation(tx, policy, seen, memory)
    decision = decided(policy, situation, now_ms)
    if decision.act is Act.NOTHING:
        return decision
    with store.begin() as tx:
        if _is_open(tx, policy.model):
            return decided(policy, _situation(tx, policy, seen, memory), now_ms)
        _open(tx, policy, seen, decision, now)
    memory.answered[policy.model] = seen.version
    memory.since_ms.pop(policy.model, None)
    return decision


def _remember(
    memory: Memory, policy: RetrainPolicy, seen: Watched, now_ms: int, *, is_open: bool
) -> None:
    model, why = policy.model, has_moved(seen, policy.share)
    if why in {Why.QUIET, Why.FEW}:
        memory.answered.pop(model, None)
    elif is_open:
        memory.answered[model] = seen.version
    elif memory.answered.get(model) != seen.version:
        memory.answered.pop(model, None)
    if why is None and model not in memory.answered:
        memory.since_ms.setdefault(model, now_ms)
    else:
        memory.since_ms.pop(model, None)


def devices_by_version(tx: Transaction, model: str) -> Counter[int]:
    """How many devices say that a version of the model answers on them; none that were revoked."""
    revoked = {one.id for one in tx.devices.all() if one.status is DeviceStatus.REVOKED}
    return Counter(
        slot.version
        for slot in tx.devices.slots()
        if slot.model == model
        and slot.slot == CHAMPION
        and slot.running
        and slot.device not in revoked
    )


def _situation(tx: Transaction, policy: RetrainPolicy, seen: Watched, memory: Memory) -> Situation:
    version = tx.registry.version(policy.model, seen.version)
    trainable = version is not None and Role.TRAIN_STEP in read_manifest(version.manifest).files
    since_ms = memory.since_ms.get(policy.model, 0)
    return Situation(seen, since_ms, _is_open(tx, policy.model), trainable)


def _is_open(tx: Transaction, model: str) -> bool:
    return any(one.model == model for one in tx.incidents.open())


def _open(
    tx: Transaction,
    policy: RetrainPolicy,
    seen: Watched,
    decision: Decision,
    now: float,
) -> None:
    model = policy.model
    name, now_ms = f"{model}-i{len(tx.incidents.all(model)) + 1}", int(now * 1000)
    run, why = "", ""
    if decision.act in {Act.PROPOSE, Act.START}:
        file = run_file(policy, seen.version)
        wish = Wish(file, ACTOR, "proposal", reasons=decision.reasons, incident=name)
        run, why = _run(tx, wish, now, at_once=decision.act is Act.START)
    incident = Incident(
        id=name,
        model=model,
        version=seen.version,
        state=IncidentState.OPEN,
        opened_ms=now_ms,
        run=run,
    )
    tx.incidents.put(incident)
    tx.incidents.tell(name, found(incident, seen, (why,) if why else ()))
    detail = {"version": str(seen.version), "run": run, "act": decision.act.value}
    tx.audit.append(Entry(ACTOR, "incident.open", name, detail), now_ms)
    log.warning("incident.opened id=%s model=%s run=%s", name, model, run or "none")


def _run(tx: Transaction, wish: Wish, now: float, *, at_once: bool) -> tuple[str, str]:
    """The id of the run, and what stood in the way of its starting, or of there being one."""
    why = ""
    if at_once:
        try:
            runs.require_flower()
            return runs.start(tx, wish, now).id, ""
        except ControllerError as error:
            why = f"the run can't start by itself: {error.detail}"
    try:
        return runs.propose(tx, wish, now).id, why
    except ControllerError as error:
        return "", f"no run can be proposed: {error.detail}"


def _read(text: str, name: str) -> tuple[RetrainPolicy, ...]:
    try:
        return read_fleet(text, name).retraining
    except (BadFleetFile, InvalidInput) as error:  # an older version of Muster took it
        log.warning("retraining.fleet-unread fleet=%s detail=%s", name, error.detail)
        return ()
