"""The process of one run's coordinator.

It is told news by bytes on its standard input, and ends at once when that is closed: all that it has
decided is durable. It asks that devices be told by a byte on its standard output; what anybody prints
goes to its log instead.
"""

import argparse
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

from agent.clock import SystemClock
from controller.errors import ControllerError, StoreError
from controller.federated.coordinator.buffered_driver import BufferedDriver
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.errors import AppUnfit, Stopped
from controller.federated.coordinator.flower import FlowerStrategy, app_of, strategy_of
from controller.federated.coordinator.parent import parents_parameters
from controller.federated.exchange import Exchange
from controller.federated.plan import Mode, Plan
from controller.federated.run import Run, RunState
from controller.federated.run_file import stored_plan
from controller.home import Home
from controller.runtimes.run_lock import alone
from controller.store.blob_folder import BlobFolder
from controller.store.blob_store import BlobStore
from controller.store.exchange import Place, StoreExchange
from controller.store.reply_folder import ReplyFolder
from controller.store.store import Store
from protos.manifest import Role, read_manifest

APPS: Final = "apps"
"""The folder of the controller's, where apps are looked for first."""

AGAIN: Final = 1
"""The status of a process that is to be started again."""

log = logging.getLogger(__name__)


def main(words: Sequence[str]) -> int:
    """Coordinates a run to its end; the status."""
    parser = argparse.ArgumentParser(prog="python -m controller.federated.coordinator")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    given = parser.parse_args(words)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    news, (hearing, telling) = threading.Event(), _own_pipes()
    threading.Thread(target=_listen, args=(hearing, news), name="news", daemon=True).start()
    sys.path.insert(0, str(given.home / APPS))
    home = Home(given.home)
    try:
        with alone(home.federated, given.run), closing(home.open_store()) as store:
            blobs = BlobFolder(home.blobs)  # not opened anew: what the controller stores now stays
            replies = ReplyFolder.open(home.replies)
            place = Place(store, blobs, replies, SystemClock(), news, lambda: _tell(telling))
            exchange = StoreExchange(place, given.run)
            coordinate(exchange, lambda: parameters(store, blobs, exchange.run))
    except ControllerError as error:
        log.error("coordinator.failed run=%s: %s", given.run, error.detail)
        return AGAIN
    return 0


def coordinate(exchange: Exchange, initial: Callable[[], bytes]) -> None:
    """Coordinates a run to its end, whichever that is; nothing happens if it is not to go on.

    Args:
        exchange: the run's way to the fleet.
        initial: the parent's parameters, an array record.

    Raises:
        StoreError: the run is to be gone on with later.
    """
    run = exchange.run
    if run.state is not RunState.RUNNING:
        return
    try:
        _drive(exchange, run, stored_plan(run.file), initial())
        log.info("coordinator.finished run=%s", run.id)
    except Stopped:
        log.info("coordinator.stopped run=%s", run.id)
    except StoreError:
        raise
    except ControllerError as error:
        log.warning("coordinator.run_failed run=%s: %s", run.id, error.detail)
        exchange.fail(f"{error.detail}. {error.remedy}")
    except Exception as error:  # an app of a user's own may raise anything
        log.exception("coordinator.run_failed run=%s", run.id)
        exchange.fail(f"{run.app or 'the coordinator'} has raised {type(error).__name__}: {error}")


def _drive(exchange: Exchange, run: Run, plan: Plan, initial: bytes) -> None:
    if run.app:
        found = app_of(_imported(run.app), run.app, run.number)
        if isinstance(found, FlowerStrategy):
            Driver(exchange, plan, found, initial).drive()
        else:
            found(exchange, plan, initial)
    elif plan.round.mode is Mode.BUFFERED:
        BufferedDriver(exchange, plan, initial).drive()
    else:
        Driver(exchange, plan, strategy_of(plan, run.number), initial).drive()


def parameters(store: Store, blobs: BlobStore, run: Run) -> bytes:
    """The parameters of the run's parent, an array record.

    Raises:
        NoCandidate: the model does not have them as raw data.
        StoreError: a file can't be read.
    """
    with store.read() as tx:
        version = tx.registry.version(run.model, run.version)
    if version is None:
        raise AppUnfit(f"{run.model}/{run.version} is not there any more")
    files = read_manifest(version.manifest).files
    if Role.TRAIN_STEP not in files:
        raise AppUnfit(f"{run.model}/{run.version} has no train step")
    model, graph = (
        b"".join(blobs.read(files[role].sha256)) for role in (Role.MODEL, Role.TRAIN_STEP)
    )
    return parents_parameters(model, graph)


def _imported(name: str) -> object:
    """What ``module:app`` names.

    Raises:
        AppUnfit: there is no such module or name, or importing it fails.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # it is code of somebody's
        log.exception("coordinator.app_unfit app=%s", name)
        raise AppUnfit(f"{name} can't be imported: {type(error).__name__}: {error}") from error


def _own_pipes() -> tuple[int, int]:
    """Standard input and output, to hear and to tell: of this process alone.

    A process that an app has started and that outlives this one would else hold them open, and the
    controller would not see that the coordinator has ended.
    """
    hearing, telling = os.dup(sys.stdin.fileno()), os.dup(sys.stdout.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, sys.stdin.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for pipe in (hearing, telling):
        os.register_at_fork(after_in_child=partial(os.dup2, nothing, pipe))
    return hearing, telling


def _listen(hearing: int, news: threading.Event) -> None:
    """Every byte is news; the end of them is the end of this process, and of what it has started."""
    while os.read(hearing, 4096):
        news.set()
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(AGAIN)


def _tell(telling: int) -> None:
    with suppress(OSError):  # the controller has gone: so will this process, and the run goes on
        os.write(telling, b".")
