"""Keeping examples: what requests bring, and what applications tell.

Every call may come from any thread.
"""

import logging
import math
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent.clock import Clock
from agent.errors import AgentError, InvalidRequest, NotReady, UnknownModel
from agent.federated.collecting.remembered import Limits, Remembered, Request
from agent.federated.collecting.samples import Drawn
from agent.federated.errors import NotCollecting, StepRefused, UnknownRequest
from agent.federated.examples import ExampleStore, examples_of
from agent.federated.layout import Array, Layout, finite, layout_of, packed, truth_of
from agent.federated.retention import Retention
from agent.federated.step_file import read_step
from agent.inference.deployment import MISTAKES
from agent.runtimes.runtime import Tensors
from protos.manifest import File, Manifest, Role

log = logging.getLogger(__name__)

LAYOUTS: Final = 64
ID_CHARACTERS: Final = 256

Manifests = Callable[[str, int | None], Manifest]
"""The manifest of what answers for a model and version; raises UnknownModel or NotReady."""


class Collector:
    """See ``agent.serving.collecting.Collecting``.

    Args:
        manifests: of what answers now.
        read: a file of the bundle by its digest; raises an ``AgentError`` if it is not whole.
        retention: the store's; ``limits`` are of what waits in memory for its truth.
        rng: draws samples of models that are their own target.
    """

    def __init__(
        self,
        manifests: Manifests,
        read: Callable[[str], bytes],
        examples: ExampleStore,
        retention: Retention,
        limits: Limits,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._manifests = manifests
        self._read = read
        self._examples = examples
        self._retention = retention
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self._remembered = Remembered(limits)
        self._drawn: dict[str, Drawn] = {}
        self._layouts: dict[tuple[str, int, File | None], Layout | str] = {}
        self._told = False

    # --- Requests ---------------------------------------------------------------------------------

    def answered(self, model: str, version: int, request_id: str, inputs: Tensors) -> None:
        """A request was answered. Whatever is the matter here fails no request."""
        try:
            layout = self._layout(self._manifests(model, version))
            if layout.truth is None:
                self._sample(model, layout, packed(layout, inputs, None))
            elif 0 < len(request_id) <= ID_CHARACTERS:
                request = Request(version, layout, packed(layout, inputs, None), self._now())
                with self._lock:
                    self._remembered.put(model, request_id, request)
        except (NotCollecting, UnknownModel, NotReady):  # the last two: it has just been switched
            return
        except AgentError as error:
            if not self._told:  # once: there may be thousands
                self._told = True
                log.warning("examples.not-kept code=%s detail=%s", error.code, error.detail)
        except MISTAKES:
            if not self._told:
                self._told = True
                log.exception("examples.not-kept model=%s version=%d", model, version)

    def feedback(
        self, model: str, version: int | None, request_id: str, truth: Sequence[Any] | Array
    ) -> int:
        """Keeps the request's rows with their truth; returns how many. Told again, it is corrected.

        A row that holds a NaN or an infinity is not kept.

        Raises:
            UnknownModel, NotReady: no such model here, or not that version.
            NotCollecting: no examples are kept of it.
            UnknownRequest: no request of that id is remembered.
            TruthUnfit: the truth is not of the model's target.
            StoreError: the disk can't be written.
        """
        self._layout(self._manifests(model, version))  # says what is the matter
        now = self._now()
        with self._lock:
            self._remembered.expire(now)
            request = self._remembered.get(model, request_id)
        if request is None or version not in {None, request.version}:
            raise UnknownRequest(f"model {model!r}: no request {request_id[:200]!r} is remembered")
        layout, rows = request.layout, request.rows.copy()
        if layout.truth is None:
            raise NotCollecting(f"model {model!r} is its own target: there is no truth to be told")
        rows[layout.truth.name] = truth_of(layout, truth, len(rows))
        return self._keep(model, layout, rows, f"request/{request.at!r}/{request_id}")

    def add(
        self,
        model: str,
        version: int | None,
        inputs: Tensors,
        truth: Sequence[Any] | Array | None,
        example_id: str = "",
    ) -> int:
        """Keeps rows that no request brought, with their truth; returns how many.

        With an ``example_id``, the same told again takes the place of what it told before.

        Raises:
            UnknownModel, NotReady, NotCollecting, TruthUnfit, StoreError: as for ``feedback``.
            InvalidRequest: the inputs are not the model's; names one.
        """
        manifest = self._manifests(model, version)
        layout = self._layout(manifest)
        known = {tensor.name for tensor in manifest.inputs}
        for name in inputs:
            if name not in known:
                raise InvalidRequest(f"input {name!r}: no such input")
        rows = packed(layout, inputs, None)
        if layout.truth is not None:
            rows[layout.truth.name] = truth_of(layout, () if truth is None else truth, len(rows))
        elif truth is not None:
            raise NotCollecting(f"model {model!r} is its own target: there is no truth to be told")
        source = example_id or f"{self._now()!r}/{self._rng.random()!r}"
        return self._keep(model, layout, rows, f"example/{source}")

    def expire(self) -> None:
        """Lets go what is too old, in memory and on the disk, and writes what was sampled.

        Raises:
            StoreError: the disk can't be written.
        """
        now = self._now()
        self.close()
        gone = self._examples.expire(now)
        with self._lock:
            self._remembered.expire(now)
            for drawn in self._drawn.values() if gone else ():
                drawn.floor = -math.inf  # there is room again

    def close(self) -> None:
        """Writes what was sampled.

        Raises:
            StoreError: the disk can't be written.
        """
        with self._lock:
            drawn = dict(self._drawn)
        for model, one in drawn.items():
            self._write_samples(model, one)

    # --- Inside -----------------------------------------------------------------------------------

    def _layout(self, manifest: Manifest) -> Layout:
        key = (manifest.model, manifest.version, manifest.files.get(Role.TRAIN_STEP))
        known = self._layouts.get(key)
        if known is None:
            known = self._read_layout(manifest)
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            self._layouts[key] = known
        if isinstance(known, str):
            raise NotCollecting(known)
        return known

    def _read_layout(self, manifest: Manifest) -> Layout | str:
        """The layout, or why there is none: that is so for as long as there is this version."""
        listed = manifest.files.get(Role.TRAIN_STEP)
        if listed is None:
            return f"{manifest.reference} has no training step to learn with"
        data = self._read(listed.sha256)
        try:
            file = read_step(data)
            return layout_of(manifest, file.spec, file.classes)
        except (NotCollecting, StepRefused) as error:
            return error.detail

    def _sample(self, model: str, layout: Layout, rows: Array) -> None:
        now = self._now()
        with self._lock:
            drawn = self._drawn.get(model)
            if drawn is None or drawn.layout.key != layout.key:
                drawn = self._drawn[model] = Drawn(layout)
            kept = finite(layout, rows)
            due = drawn.draw(kept, [self._rng.random() for _ in kept], now)
        if due:
            self._write_samples(model, drawn)

    def _write_samples(self, model: str, drawn: Drawn) -> None:
        with self._lock:
            waiting = drawn.taken()
            source = f"sample/{self._now()!r}/{self._rng.random()!r}"
        if waiting is not None:
            examples = examples_of(
                drawn.layout, waiting.rows, self._retention, waiting.since, source, waiting.ranks
            )
            drawn.floor = self._examples.add(model, drawn.layout, examples)

    def _keep(self, model: str, layout: Layout, rows: Array, source: str) -> int:
        kept = finite(layout, rows)
        examples = examples_of(layout, kept, self._retention, self._now(), source)
        self._examples.add(model, layout, examples)
        return len(kept)

    def _now(self) -> float:
        return self._clock.now().timestamp()
