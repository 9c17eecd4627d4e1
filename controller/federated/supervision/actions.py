"""What came of a finished run is handed on: it becomes a candidate version, or it is said why not."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from controller.audit import Entry
from controller.errors import ControllerError
from controller.federated.run import Run
from controller.federated.settling import awaits_version
from controller.store.store import Store, Transaction

Finished = Callable[[Run], int | None]
"""Registers what came of the run; returns the version, or None if there is none to be. It may be asked
twice of one run, and then returns the same. Raises ``ControllerError`` where it can't be."""

ACTOR = "muster"

log = logging.getLogger(__name__)


def nothing(_: Run) -> int | None:
    """No version is made."""
    return None


def unregistered(tx: Transaction) -> Sequence[Run]:
    """Finished runs of which a version is wanted, and neither is there nor is it known why not."""
    return [run for run in tx.runs.all() if awaits_version(run)]


def hand_on(store: Store, run: Run, finished: Finished, now: float) -> None:
    """Has the version registered, and writes down which, or why there is none.

    Raises:
        StoreError: the next turn tries again.
    """
    try:
        candidate, error = finished(run), ""
    except ControllerError as refused:
        if refused.status >= 500:
            raise
        candidate, error = None, refused.detail
    if candidate is None and not error:
        error = "no version was registered"
    with store.begin() as tx:
        now_run = tx.runs.get(run.id) or run
        tx.runs.put(replace(now_run, candidate=candidate, error=error[:2000]))
        detail = {"candidate": str(candidate or ""), "error": error[:500]}
        tx.audit.append(Entry(ACTOR, "federated.finish", run.id, detail), int(now * 1000))
    log.info("federated.finished run=%s candidate=%s error=%s", run.id, candidate, error)
