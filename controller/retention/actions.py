"""Removes what nobody needs any more. Each step of these generators is one short transaction."""

from collections.abc import Callable, Iterator
from typing import Final

from controller.federated.run import RunState
from controller.federated.settling import keeps_its_journal
from controller.federated.task import UNSETTLED
from controller.store.blob_store import BlobStore
from controller.store.exchange import forget_blobs
from controller.store.reply_box import ReplyBox
from controller.store.store import Store, Transaction
from protos.manifest import read_manifest

PORTION: Final = 500
"""Rows that one transaction removes: telemetry is stored between two of them."""
REPORTS_KEPT: Final = 1_000
"""Newest reports of a device: as evidence, and to find what it ran before."""


def expire_telemetry(store: Store, before_ms: int) -> Iterator[int]:
    """Windows, events and readings that ended before; yields how many each step has removed."""
    yield from _portions(store, lambda tx: tx.retention.expire(before_ms, PORTION))


def trim_reports(store: Store) -> Iterator[int]:
    """Each device's reports beyond the newest ones."""
    with store.read() as tx:
        devices = [device.id for device in tx.devices.all()]
    for device in devices:
        yield from _portions(store, _trim(device))


def sweep_blobs(store: Store, blobs: BlobStore, before: float) -> Iterator[int]:
    """Blobs that no version or run names and nobody has stored since ``before`` (Unix seconds).

    A registration stores all its blobs, those that are there already too, before the version that
    names them: one that began since is safe.
    """
    old = blobs.stored_before(before)
    with store.read() as tx:
        named = _named(tx)
    for sha256 in set(old) - named:
        yield int(blobs.delete(sha256, before))


def forget_run_blobs(store: Store, blobs: BlobStore, before_ms: int) -> Iterator[int]:
    """Arrays and states that federated runs have stored before then and need no more."""
    with store.read() as tx:
        names = sorted({one.run for one in tx.runs.blobs() if one.put_ms < before_ms})
        runs = [run for name in names if (run := tx.runs.get(name)) is not None]
    for run in runs:
        if not keeps_its_journal(run):
            yield forget_blobs(store, blobs, run.id, before_ms)


def forget_replies(store: Store, replies: ReplyBox) -> Iterator[int]:
    """Replies that nobody will look at again: a coordinator that was killed has left them."""
    for name in sorted(replies.tasks()):
        with store.read() as tx:
            task = tx.tasks.get(name)
            run = tx.runs.get(task.run) if task else None
        if task and run and (task.state in UNSETTLED or keeps_its_journal(run)):
            continue
        replies.remove(name)
        yield 1


def expire_tasks(store: Store, before_ms: int) -> Iterator[int]:
    """Tasks of runs that finished before; what came of their phases stays."""
    with store.read() as tx:
        done = [
            run.id
            for run in tx.runs.all()
            if run.state is RunState.FINISHED and run.ended_ms < before_ms
        ]
    for run in done:
        yield from _portions(store, _remove_tasks(run))


def _remove_tasks(run: str) -> Callable[[Transaction], int]:
    return lambda tx: tx.tasks.remove(run, PORTION)


def _named(tx: Transaction) -> set[str]:
    found = {one.sha256 for one in tx.runs.blobs()}
    for version in tx.registry.versions():
        files = read_manifest(version.manifest).files.values()
        found |= {version.manifest_sha256, *(file.sha256 for file in files)}
    return found


def _trim(device: str) -> Callable[[Transaction], int]:
    return lambda tx: tx.retention.trim_reports(device, REPORTS_KEPT, PORTION)


def _portions(store: Store, remove: Callable[[Transaction], int]) -> Iterator[int]:
    removed = PORTION
    while removed == PORTION:
        with store.begin() as tx:
            removed = remove(tx)
        yield removed
