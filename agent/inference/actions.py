"""Answering requests, and exchanging what answers them while they come.

A request takes one reference to a deployment and finishes on it. A switch replaces the table by
another in one assignment; a deployment that stands nowhere any more is closed by the last request
that leaves it. So no request is dropped, and none is answered by two versions.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, NamedTuple

from agent.errors import (
    HashMismatch,
    InferenceFailed,
    InvalidRequest,
    MalformedDocument,
    ModelLoadFailed,
)
from agent.inference.deployment import Deployment, ObserverT, Outcome, ReferenceT
from agent.inference.deployments import (
    Change,
    Standing,
    Table,
    activated,
    answering,
    committed,
    present,
    removed,
    reverted,
    table_of,
)
from agent.inference.golden import decode
from agent.inference.signature import check_inputs, outputs_of
from agent.inference.traffic import TrafficCounts
from agent.install.ports import TrafficSnapshot
from agent.install.record import Deployed
from agent.runtimes.runtime import LoadedModel, Runtime, Tensors
from protos.errors import DocumentError
from protos.manifest import Manifest, Role


class Answer(NamedTuple):
    """Outputs by name, in the order asked for, and the version that gave them."""

    version: int
    outputs: Tensors


@dataclass(frozen=True, slots=True)
class Hosted:
    """One version that is here, for those who ask what is; a candidate has no slot yet."""

    model: str
    version: int
    slot: str
    ready: bool


class Deployments(Generic[ObserverT, ReferenceT]):
    """What answers, by model, slot and version. Every method may be called from any thread.

    Args:
        runtimes: by the name that ``Needs.runtime`` gives.
        read: a file of the bundle by its digest; raises an ``AgentError`` if it is not whole.
        read_reference: what a reference file says.
        observer: makes what sees the requests of one version.
    """

    def __init__(
        self,
        runtimes: Mapping[str, Runtime],
        read: Callable[[str], bytes],
        read_reference: Callable[[bytes], ReferenceT],
        observer: Callable[[ReferenceT], ObserverT],
    ) -> None:
        self._runtimes = runtimes
        self._read = read
        self._read_reference = read_reference
        self._observer = observer
        self._lock = threading.Lock()
        self._table: Table[Deployment[ObserverT, ReferenceT]] = table_of({}, {})

    # --- Changing what answers --------------------------------------------------------------------

    async def prepare(self, deployed: Deployed, manifest: Manifest) -> None:
        """Loads the version beside what answers now, and has it answer its golden inputs once.

        It is the model's candidate then, in place of one that was never activated. Loading goes on
        in a thread; when cancelled, what it loaded is dropped.

        Raises:
            ModelLoadFailed: no runtime for it, or the runtime can't run it.
            HashMismatch: the file is not the one that was deployed.
        """
        candidate = await asyncio.to_thread(self._load, deployed, manifest)
        with self._lock:
            replaced = self._table.candidates.get(deployed.model)
            self._table = table_of(
                self._table.slots, {**self._table.candidates, deployed.model: candidate}
            )
        if replaced is not None:
            replaced.retire()

    def activate(self, model: str, slot: str) -> None:
        """The candidate answers, from one request to the next; what did before, stays warm.

        Raises:
            ModelLoadFailed: there is no candidate.
        """
        with self._lock:
            candidates = dict(self._table.candidates)
            candidate = candidates.pop(model, None)
            if candidate is None:
                raise ModelLoadFailed(f"no version of model {model!r} is prepared")
            candidate.activate()
            change = activated(self._standing(model, slot), candidate)
            released = self._change(model, slot, change, candidates)
        _retire(released)

    def release_previous(self, model: str, slot: str) -> None:
        """What answers is proven: frees what did before it, once its requests have left."""
        with self._lock:
            released = self._change(model, slot, committed(self._standing(model, slot)))
        _retire(released)

    def revert(self, model: str, slot: str) -> None:
        """The version before answers again, and what is not proven is freed.

        If what answers is proven, it stays, and it is the candidate that is freed. If nothing was
        before, nothing answers.
        """
        with self._lock:
            standing = self._standing(model, slot)
            candidates = dict(self._table.candidates)
            dropped = candidates.pop(model, None) if standing.proven else None
            if standing.previous is not None:
                standing.previous.activate()
            released = self._change(model, slot, reverted(standing), candidates)
        _retire((*released, *present(dropped)))

    def remove(self, model: str, slot: str) -> None:
        """Nothing answers in this slot any more; the model's last slot takes its candidate along."""
        with self._lock:
            elsewhere = any(key[0] == model and key[1] != slot for key in self._table.slots)
            candidates = dict(self._table.candidates)
            dropped = None if elsewhere else candidates.pop(model, None)
            change = removed(self._standing(model, slot))
            released = self._change(model, slot, change, candidates)
        _retire((*released, *present(dropped)))

    def close(self) -> None:
        """Nothing answers any more."""
        with self._lock:
            table, self._table = self._table, table_of({}, {})
        _retire([one for key in table.slots for one in removed(table.slots[key]).released])
        _retire(table.candidates.values())

    # --- Asking -----------------------------------------------------------------------------------

    def enter(self, model: str, version: int | None) -> Deployment[ObserverT, ReferenceT]:
        """The deployment that answers, with a reference taken on it; ``leave`` gives it back.

        Raises:
            UnknownModel: no such model here, or not that version.
            NotReady: it is on its way.
        """
        while True:
            found = answering(self._table, model, version)
            if found.enter():
                return found
            # It was let go between the two lines: the table is another by now.

    def get(self, model: str, version: int | None = None) -> Manifest:
        """The manifest of what answers.

        Raises:
            UnknownModel: no such model here, or not that version.
            NotReady: it is on its way.
        """
        return answering(self._table, model, version).manifest

    def hosted(self) -> Sequence[Hosted]:
        """All versions that answer or are on their way, by model and slot."""
        table = self._table
        answer = [
            Hosted(model, standing.active.version, slot, ready=True)
            for (model, slot), standing in table.slots.items()
            if standing.active is not None
        ]
        wait = [
            Hosted(model, one.version, slot="", ready=False)
            for model, one in table.candidates.items()
        ]
        return sorted([*answer, *wait], key=lambda one: (one.model, one.slot, one.version))

    def ready(self) -> bool:
        """Whether every model that is here answers."""
        table = self._table
        answering_models = {model for model, _ in table.answers}
        return answering_models.issuperset(table.candidates)

    def traffic(self, model: str, slot: str) -> TrafficSnapshot:
        """What requests the slot's version has had since it was activated; none if none answers."""
        active = self._standing(model, slot).active
        counts = TrafficCounts() if active is None else active.since_activation()
        return TrafficSnapshot(counts.requests, counts.failed, counts.p99_seconds or 0.0)

    def watched(self) -> Sequence[Deployment[ObserverT, ReferenceT]]:
        """Every version that may get requests; one that has gone may still finish some."""
        return [
            one
            for standing in self._table.slots.values()
            for one in (standing.active, standing.previous)
            if one is not None
        ]

    # --- Inside -----------------------------------------------------------------------------------

    def _standing(self, model: str, slot: str) -> Standing[Deployment[ObserverT, ReferenceT]]:
        return self._table.slots.get((model, slot), Standing())

    def _change(
        self,
        model: str,
        slot: str,
        change: Change[Deployment[ObserverT, ReferenceT]],
        candidates: Mapping[str, Deployment[ObserverT, ReferenceT]] | None = None,
    ) -> Sequence[Deployment[ObserverT, ReferenceT]]:
        """Puts the change into the table; the lock is held. Returns what is to be retired."""
        slots = {**self._table.slots, (model, slot): change.standing}
        self._table = table_of(slots, self._table.candidates if candidates is None else candidates)
        return change.released

    def _load(self, deployed: Deployed, manifest: Manifest) -> Deployment[ObserverT, ReferenceT]:
        runtime = self._runtimes.get(manifest.needs.runtime)
        if runtime is None:
            raise ModelLoadFailed(
                f"{manifest.reference}: needs the runtime {manifest.needs.runtime!r}; "
                f"here is {', '.join(self._runtimes) or 'none'}"
            )
        files = manifest.files
        loaded = runtime.load(self._read(files[Role.MODEL].sha256), manifest)
        if loaded.sha256 != deployed.model_sha256:
            raise HashMismatch(f"{manifest.reference}: the runtime loaded {loaded.sha256}")
        try:
            reference = self._read_reference(self._read(files[Role.REFERENCE].sha256))
        except DocumentError as error:
            raise ModelLoadFailed(f"{manifest.reference}: {error}") from error
        _warm(loaded, manifest, self._read(files[Role.GOLDEN].sha256))
        return Deployment(manifest, loaded, reference, self._observer(reference), threading.Lock())


def _retire(released: Iterable[Deployment[ObserverT, ReferenceT]]) -> None:
    for one in released:
        one.retire()


def _warm(loaded: LoadedModel, manifest: Manifest, golden: bytes) -> None:
    """What the runtime does only once, it does before anyone waits for it."""
    try:
        loaded.run(decode(golden).inputs, [tensor.name for tensor in manifest.outputs])
    except (InferenceFailed, MalformedDocument) as error:
        raise ModelLoadFailed(f"{manifest.reference}: golden inputs: {error}") from error


def infer(
    deployments: Deployments[ObserverT, ReferenceT],
    model: str,
    version: int | None,
    inputs: Tensors,
    outputs: Sequence[str] = (),
) -> Answer:
    """Answers one request, from any thread: the outputs asked for, all if none is.

    Without a version, the champion answers. The model computes all of its outputs whatever was asked
    for, so that the observer sees the same of every request.

    Raises:
        UnknownModel: no such model here, or not that version.
        NotReady: it is on its way.
        InvalidRequest: the inputs are not the version's; names each.
        InferenceFailed: the runtime failed.
    """
    deployment = deployments.enter(model, version)
    started = perf_counter()
    outcome = Outcome.FAILED
    seconds = 0.0
    try:
        signature = deployment.signature
        wanted = outputs_of(signature, outputs)
        check_inputs(signature, inputs)
        computed = dict(
            zip(
                signature.outputs,
                deployment.loaded.run(inputs, signature.outputs),
                strict=True,
            )
        )
        seconds = perf_counter() - started
        outcome = Outcome.ANSWERED
    except InvalidRequest:
        outcome = Outcome.REFUSED
        raise
    finally:
        deployment.leave(outcome, seconds)
    deployment.observe(inputs, computed)
    if wanted is signature.outputs:
        return Answer(deployment.version, computed)
    return Answer(deployment.version, {name: computed[name] for name in wanted})
