"""Somebody begins a federated run, or ends one; each is one transaction. Wake the run's loop afterwards."""

import hashlib
import importlib.util
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.audit import Entry
from controller.errors import Conflict, InvalidInput, NotFound
from controller.federated.errors import FlowerMissing, NotTrainableHere
from controller.federated.exchange import PhaseRecord
from controller.federated.nodes import NodeBook
from controller.federated.plan import Plan
from controller.federated.run import Run, RunEvent, RunState, step
from controller.federated.run_file import BadRunFile, read_plan, stored_plan
from controller.federated.settling import awaits_version, taken_back
from controller.federated.task import TaskState
from controller.federated.turnout import Turnout, turnout_of
from controller.fleet.attributes import attributes
from controller.fleet.device import DeviceStatus
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.registry.actions import resolve
from controller.registry.version import State, Version
from controller.store.store import Transaction
from protos.manifest import Role, read_manifest

FLOWER: Final = "flwr"
_APP: Final = re.compile(r"[A-Za-z_][\w.]{0,200}:[A-Za-z_]\w{0,100}")
_LIST: Final = "`muster federated list` shows the runs."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """A run that somebody wants.

    Attributes:
        file: TOML.
        actor: who wants it.
        name: what messages call the file.
        app: ``module:app`` of a user's own; empty for the strategies by name.
        reasons: why, in words.
        incident: what it belongs to; empty if to none.
    """

    file: str
    actor: str
    name: str = "run file"
    app: str = ""
    reasons: tuple[str, ...] = ()
    incident: str = ""


@dataclass(frozen=True, slots=True)
class RunAccount:
    """A run, and what has come of it.

    Attributes:
        phases: those that are closed, in order.
        open_step: number of the phase under way; 0 if there is none.
        open: how its tasks stand.
        turnout: whom it could ask, while it runs and has asked nobody; else None.
    """

    run: Run
    phases: Sequence[PhaseRecord]
    open_step: int
    open: Mapping[TaskState, int]
    turnout: Turnout | None = None


def flower_is_here() -> bool:
    """Whether the ``[federated]`` extra is installed."""
    return importlib.util.find_spec(FLOWER) is not None


def require_flower() -> None:
    """Returns if runs can be coordinated here.

    Raises:
        FlowerMissing: they can't.
    """
    if not flower_is_here():
        raise FlowerMissing("federated runs need Flower, which is not installed")


def start(tx: Transaction, wish: Wish, now: float) -> Run:
    """A run that begins at once; ``now`` is Unix seconds.

    It belongs to the open incident of its version, if no other run is at work for that.

    Raises:
        BadRunFile: names every line that is wrong.
        NotFound: there is no such version.
        NotTrainableHere: the version has no train step.
        Conflict: it is not published, no device matches, or a run of the model is at work.
        InvalidInput: the app can be none.
    """
    made = _made(tx, wish, RunState.RUNNING, now)
    _require_alone(tx, made)
    begun = replace(made, started_ms=made.created_ms, incident=made.incident or _taken_up(tx, made))
    return _put(tx, begun, wish.actor, "federated.start", now)


def propose(tx: Transaction, wish: Wish, now: float) -> Run:
    """A run that somebody may start.

    Raises:
        BadRunFile, NotFound, NotTrainableHere, Conflict, InvalidInput: as ``start``.
    """
    made = _made(tx, wish, RunState.PROPOSED, now)
    return _put(tx, made, wish.actor, "federated.propose", now)


def start_proposed(tx: Transaction, run_id: str, actor: str, now: float) -> Run:
    """Begins a run that was proposed.

    Raises:
        NotFound: there is none of that id.
        Conflict: it was not proposed, or a run of the model is at work.
    """
    run = run_of(tx, run_id)
    begun = replace(run, state=step(run.id, run.state, RunEvent.START), started_ms=int(now * 1000))
    _require_alone(tx, run)
    _taken_up(tx, run)
    return _put(tx, begun, actor, "federated.start", now)


def dismiss(tx: Transaction, run_id: str, actor: str, now: float) -> Run:
    """Nobody wants a run that was proposed.

    Raises:
        NotFound, Conflict: as ``start_proposed``.
    """
    run = run_of(tx, run_id)
    ended = step(run.id, run.state, RunEvent.DISMISS)
    gone = replace(run, state=ended, ended_ms=int(now * 1000))
    return _put(tx, gone, actor, "federated.dismiss", now)


def stop(tx: Transaction, run_id: str, actor: str, now: float) -> Run:
    """Gives up the round under way; the run can be resumed.

    Raises:
        NotFound: there is none of that id.
        Conflict: it is not at work.
    """
    run = run_of(tx, run_id)
    stopping = replace(run, state=step(run.id, run.state, RunEvent.STOP))
    return _put(tx, stopping, actor, "federated.stop", now)


def resume(tx: Transaction, run_id: str, actor: str, now: float) -> Run:
    """Goes on from the newest checkpoint; of one that has finished, its version is made anew.

    Raises:
        NotFound: there is none of that id.
        Conflict: it has not stopped or failed, or a run of the model is at work; or it has finished,
            and nothing has kept its version from being made.
    """
    run = run_of(tx, run_id)
    if run.state is RunState.FINISHED and run.candidate is None and run.error:
        return _put(tx, replace(run, error=""), actor, "federated.resume", now)
    state = step(run.id, run.state, RunEvent.RESUME)
    _require_alone(tx, run)
    going = replace(run, state=state, ended_ms=0, error="")
    return _put(tx, going, actor, "federated.resume", now)


def ended(tx: Transaction, run_id: str, now: float, error: str = "") -> Run:
    """Its coordinator has ended, as it was asked to; or, with an error, can't be kept going.

    Raises:
        NotFound: there is none of that id.
        Conflict: it is not at work.
    """
    run = run_of(tx, run_id)
    event = RunEvent.FAILED if error else RunEvent.ENDED
    over = replace(run, state=step(run.id, run.state, event), ended_ms=int(now * 1000), error=error)
    tx.runs.put(over)
    for task in taken_back(tx.tasks.unsettled(run.id)):
        tx.tasks.put(task)
    log.info("federated.ended run=%s state=%s", run.id, over.state)
    return over


def run_of(tx: Transaction, run_id: str) -> Run:
    """The run.

    Raises:
        NotFound: there is none of that id.
    """
    run = tx.runs.get(run_id)
    if run is None:
        raise NotFound(f"no federated run {run_id[:100]!r}", _LIST)
    return run


def account_of(tx: Transaction, run_id: str) -> RunAccount:
    """The run, and what has come of it so far.

    Raises:
        NotFound: there is none of that id.
    """
    run, phases = run_of(tx, run_id), tx.runs.phases(run_id)
    closed = {one.step for one in phases}
    waiting = [one.step for one in tx.tasks.unsettled(run_id) if one.step not in closed]
    number = max(waiting, default=0)
    if number:
        return RunAccount(run, phases, number, tx.tasks.counts(run_id, number))
    return RunAccount(run, phases, 0, {}, _turnout(tx, run))


def _turnout(tx: Transaction, run: Run) -> Turnout | None:
    if run.state is not RunState.RUNNING:
        return None
    try:
        book = NodeBook(run, stored_plan(run.file).run.selector)
    except BadRunFile:  # of another release
        return None
    book.take(tx.tasks.standing(run.model, 0))
    return turnout_of(book.nodes(tx.tasks.busy(run.id)))


def _made(tx: Transaction, wish: Wish, state: RunState, now: float) -> Run:
    plan = read_plan(wish.file, wish.name)
    if wish.app and not _APP.fullmatch(wish.app):
        raise InvalidInput(f"app: {wish.app[:200]!r} is not MODULE:NAME")
    version = _trainable(tx, plan)
    _require_devices(tx, plan)
    before = tx.runs.all(version.model)
    name = f"{version.model}-r{len(before) + 1}"
    newest = max((one.created_ms for one in before), default=0)
    return Run(
        id=name,
        number=run_number(name),
        model=version.model,
        version=version.version,
        manifest_sha256=version.manifest_sha256,
        file=wish.file,
        state=state,
        rounds=plan.run.rounds,
        created_ms=max(int(now * 1000), newest + 1),
        created_by=wish.actor,
        app=wish.app,
        reasons=wish.reasons,
        incident=wish.incident,
    )


def _taken_up(tx: Transaction, run: Run) -> str:
    """The open incident of which this is the run from now on; empty if there is none."""
    for one in tx.incidents.open():
        before = tx.runs.get(one.run) if one.run else None
        if before is not None and _stands(tx, before):
            continue
        if (one.model, one.version) == (run.model, run.version):
            tx.incidents.put(replace(one, run=run.id))
            return one.id
    return ""


def _stands(tx: Transaction, run: Run) -> bool:
    """Whether a version has come of the run, or is about to, that people have not turned down."""
    if run.candidate is None:
        return awaits_version(run)
    version = tx.registry.version(run.model, run.candidate)
    return version is not None and version.state not in {State.REJECTED, State.RECALLED}


def run_number(run_id: str) -> int:
    """The run as Flower numbers it: uint64, not 0."""
    digest = hashlib.sha256(f"muster run {run_id}".encode()).digest()
    return max(int.from_bytes(digest[:8], "big"), 1)


def _trainable(tx: Transaction, plan: Plan) -> Version:
    version = resolve(tx, plan.run.model)
    reference = f"{version.model}/{version.version}"
    if version.state is not State.PUBLISHED:
        raise Conflict(
            f"{reference} is {version.state}; only published versions are trained",
            f"`muster model show {reference}` says what it waits for.",
        )
    if Role.TRAIN_STEP not in read_manifest(version.manifest).files:
        raise NotTrainableHere(f"{reference} has no train step")
    return version


def _require_devices(tx: Transaction, plan: Plan) -> None:
    chosen = parse(plan.run.selector)
    active = (one for one in tx.devices.all() if one.status is DeviceStatus.ACTIVE)
    if not any(matches(chosen, attributes(one)) for one in active):
        raise Conflict(
            f"selector {plan.run.selector!r} matches no active device",
            "`muster device list` shows devices and their labels.",
        )


def _require_alone(tx: Transaction, run: Run) -> None:
    for one in tx.runs.at_work():
        if one.model == run.model and one.id != run.id:
            raise Conflict(
                f"{one.id} is {one.state}: one run of a model at a time",
                f"Wait for it, or end it with `muster federated stop {one.id}`.",
            )


def _put(tx: Transaction, run: Run, actor: str, action: str, now: float) -> Run:
    tx.runs.put(run)
    detail = {"version": f"{run.model}/{run.version}", "state": run.state.value}
    if run.app:
        detail["app"] = run.app
    tx.audit.append(Entry(actor, action, run.id, detail), int(now * 1000))
    log.info("%s run=%s by=%s", action, run.id, actor)
    return run
