"""What came of a finished run is handed on: it becomes a candidate version, or it is said why not."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from controller.audit import Entry
from controller.errors import ControllerError
from controller.federated.run import Run
from controller.federated.settling import awaits_version
from controller.store.store import Store, Transaction


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a run.

    Attributes:
        version: of its model; None if there is none.
        objection: why there is none, or why it can't be approved; empty if it can.
    """

    version: int | None
    objection: str = ""


Finished = Callable[[Run], Made]
"""Registers what came of the run. It may be asked twice of one run, and then returns the same. Raises
``ControllerError`` where it can't be."""

ACTOR = "muster"

log = logging.getLogger(__name__)


def nothing(_: Run) -> Made:
    """No version is made."""
    return Made(None, "no version is made here")


def unregistered(tx: Transaction) -> Sequence[Run]:
    """Finished runs of which a version is wanted, and neither is there nor is it known why not."""
    return [run for run in tx.runs.all() if awaits_version(run)]


def hand_on(store: Store, run: Run, finished: Finished, now: float) -> None:
    """Has the version registered, and writes down which, or why there is none.

    Raises:
        StoreError, Interrupted: nothing is written down; it can be tried again.
    """
    try:
        made = finished(run)
    except ControllerError as refused:
        if refused.status >= 500:
            raise
        made = Made(None, refused.detail)
    write_down(store, run, made, now)


def write_down(store: Store, run: Run, made: Made, now: float) -> None:
    """Which version came of the run, or why there is none.

    Raises:
        StoreError: nothing is written.
    """
    with store.begin() as tx:
        stored = replace(
            tx.runs.get(run.id) or run, candidate=made.version, error=made.objection[:2000]
        )
        tx.runs.put(stored)
        detail = {"candidate": str(made.version or ""), "objection": made.objection[:500]}
        tx.audit.append(Entry(ACTOR, "federated.finish", run.id, detail), int(now * 1000))
    log.info("federated.finished run=%s candidate=%s %s", run.id, made.version, made.objection)
