"""A registry in memory, and a model to put into it."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx

from agent.runtimes.onnx import OnnxRuntime
from controller.registry import actions
from controller.registry.preparation import Prepared
from controller.registry.registration import Registered, Registration
from controller.registry.version import Event, step
from controller.store.store import Transaction
from protos.manifest import Role
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_store import MemoryStore
from tests.controller.registry.building import classifier, npz, rows_and_truth

X, Y = rows_and_truth(400)
REFERENCE = npz(x=X, y=Y)
NOW = 1_790_000_000.25


def request(graph: onnx.ModelProto) -> Registration:
    return Registration("things", graph.SerializeToString(), REFERENCE)


class Registry:
    """A registry on a store and blobs in memory, with the runtime of the devices."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.blobs = MemoryControllerBlobs()
        self.runtime = OnnxRuntime()
        self.told: list[tuple[str, float]] = []

    def register(self, graph: onnx.ModelProto, **changes: object) -> Registered:
        asked = dataclasses.replace(request(graph), **changes)  # type: ignore[arg-type]
        return actions.register(
            self.store,
            self.blobs,
            self.runtime,
            asked,
            "ann",
            NOW,
            np.random.default_rng(5),
            lambda what, share: self.told.append((what, share)),
        )

    def insert(self, prepared: Prepared, graph: onnx.ModelProto | None = None) -> Registered:
        asked = request(graph or classifier())
        return actions.insert(self.store, self.blobs, asked, prepared, "ann", NOW)

    @contextmanager
    def tx(self) -> Iterator[Transaction]:
        with self.store.begin() as tx:
            yield tx

    def publish(self, registered: Registered) -> None:
        """As the approvers' signatures will."""
        version = registered.version
        for event in (Event.SIGNED_ENOUGH, Event.PUBLISHED):
            version = dataclasses.replace(version, state=step(version.state, event))
        with self.tx() as tx:
            tx.registry.put_version(version)

    def blob(self, registered: Registered, role: Role) -> bytes:
        return b"".join(self.blobs.read(registered.manifest.files[role].sha256))
