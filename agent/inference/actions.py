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
from typing import Generic

from agent.errors import (
    HashMismatch,
    InferenceFailed,
    InvalidRequest,
    MalformedDocument,
    ModelLoadFailed,
)
from agent.inference.deployment import Deployment, Outcome, W
from agent.inference.deployments import (
    Change,
    Standing,
    Table,
    activated,
    answering,
    committed,
    removed,
    reverted,
    table_of,
)
from agent.inference.golden import decode
from agent.inference.signature import check_inputs, outputs_of
from agent.inference.traffic import TrafficCounts
from agent.install.ports import TrafficSnapshot
from agent.install.record import Deployed
from agent.runtimes.runtime import Runtime, Tensors
from protos.manifest import Manifest, Role


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs by name, in the order asked for, and the version that gave them."""

    version: int
    outputs: Tensors


@dataclass(frozen=True, slots=True)
class Watched(Generic[W]):
    """A version whose requests are watched.

    Attributes:
        watch: what the deployments' factory made for it.
        drain: traffic since the last call; see ``Deployment.drain``.
        finished: it will get no more requests.
    """

    model: str
    version: int
    manifest_sha256: str
    manifest: Manifest
    watch: W
    drain: Callable[[], TrafficCounts]
    finished: bool


@dataclass(frozen=True, slots=True)
class Hosted:
    """One version that is here, for those who ask what is; a candidate has no slot yet."""

    model: str
    version: int
    slot: str
    ready: bool


class Deployments(Generic[W]):
    """What answers, by model, slot and version. Every method may be called from any thread.

    Args:
        runtimes: by the name that ``Needs.runtime`` gives.
        read: a file of the bundle by its digest; raises an ``AgentError`` if it is not whole.
        watch: makes the watch of a version from its manifest and its reference file.
    """

    def __init__(
        self,
        runtimes: Mapping[str, Runtime],
        read: Callable[[str], bytes],
        watch: Callable[[Manifest, bytes], W],
    ) -> None:
        self._runtimes = runtimes
        self._read = read
        self._watch = watch
        self._lock = threading.Lock()
        self._table: Table[Deployment[W]] = table_of({}, {})
        self._finished: list[Deployment[W]] = []

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
        _retire((*released, *((dropped,) if dropped is not None else ())))

    def remove(self, model: str, slot: str) -> None:
        """Nothing answers in this slot any more."""
        with self._lock:
            released = self._change(model, slot, removed(self._standing(model, slot)))
        _retire(released)

    def close(self) -> None:
        """Nothing answers any more."""
        with self._lock:
            table, self._table = self._table, table_of({}, {})
        _retire([one for key in table.slots for one in removed(table.slots[key]).released])
        _retire(table.candidates.values())

    # --- Asking -----------------------------------------------------------------------------------

    def enter(self, model: str, version: int | None) -> Deployment[W]:
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

    def watched(self) -> Sequence[Watched[W]]:
        """Every version that may still get requests."""
        return [
            _watched(one)
            for standing in self._table.slots.values()
            for one in (standing.active, standing.previous)
            if one is not None
        ]

    def finished(self) -> Sequence[Watched[W]]:
        """Versions that have had their last request since this was last asked: each just once."""
        with self._lock:
            done = [one for one in self._finished if one.idle]
            self._finished = [one for one in self._finished if one not in done]
        return [_watched(one) for one in done]

    # --- Inside -----------------------------------------------------------------------------------

    def _standing(self, model: str, slot: str) -> Standing[Deployment[W]]:
        return self._table.slots.get((model, slot), Standing())

    def _change(
        self,
        model: str,
        slot: str,
        change: Change[Deployment[W]],
        candidates: Mapping[str, Deployment[W]] | None = None,
    ) -> Sequence[Deployment[W]]:
        """Puts the change into the table; the lock is held. Returns what is to be retired."""
        slots = {**self._table.slots, (model, slot): change.standing}
        self._table = table_of(slots, self._table.candidates if candidates is None else candidates)
        self._finished += change.released
        return change.released

    def _load(self, deployed: Deployed, manifest: Manifest) -> Deployment[W]:
        runtime = self._runtimes.get(manifest.needs.runtime)
        if runtime is None:
            raise ModelLoadFailed(
                f"{manifest.reference}: needs the runtime {manifest.needs.runtime!r}; "
                f"here is {', '.join(self._runtimes) or 'none'}"
            )
        model = runtime.load(self._read(manifest.files[Role.MODEL].sha256), manifest)
        if model.sha256 != deployed.model_sha256:
            raise HashMismatch(f"{manifest.reference}: the runtime loaded {model.sha256}")
        watch = self._watch(manifest, self._read(manifest.files[Role.REFERENCE].sha256))
        deployment = Deployment(deployed, manifest, model, watch, threading.Lock())
        _warm(deployment, self._read(manifest.files[Role.GOLDEN].sha256))
        return deployment


def _retire(released: Iterable[Deployment[W]]) -> None:
    for one in released:
        one.retire()


def _watched(one: Deployment[W]) -> Watched[W]:
    return Watched(
        model=one.manifest.model,
        version=one.version,
        manifest_sha256=one.deployed.manifest_sha256,
        manifest=one.manifest,
        watch=one.watch,
        drain=one.drain,
        finished=one.idle,
    )


def _warm(deployment: Deployment[W], golden: bytes) -> None:
    """What the runtime does only once, it does before anyone waits for it."""
    try:
        deployment.model.run(decode(golden).inputs, deployment.signature.outputs)
    except (InferenceFailed, MalformedDocument) as error:
        raise ModelLoadFailed(f"{deployment.manifest.reference}: golden inputs: {error}") from error


def infer(
    deployments: Deployments[W],
    model: str,
    version: int | None,
    inputs: Tensors,
    outputs: Sequence[str] = (),
) -> Answer:
    """Answers one request, from any thread: the outputs asked for, all if none is.

    Without a version, the champion answers. The model computes all of its outputs whatever was asked
    for, so that the watch sees the same of every request.

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
                deployment.model.run(inputs, signature.outputs),
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
