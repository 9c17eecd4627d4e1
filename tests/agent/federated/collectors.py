"""One version that answers, what is kept of its requests, and a clock that is set by hand."""

import random
from datetime import UTC, datetime

import numpy as np

from agent.errors import NotReady
from agent.federated.collecting.actions import Collector
from agent.federated.collecting.remembered import Limits
from agent.federated.examples import Part
from agent.federated.layout import TRUTH, records
from agent.federated.retention import Retention
from protos.manifest import Manifest
from simulations.memory_examples import MemoryExamples
from tests.agent.federated.learners import Learner

ALL = Retention(hold_out=0.0)


ROOM = Limits()


DICE = random.Random(1)  # noqa: S311 - no secrets


ROW = np.array([[1, 2, 3, 4]], np.float32)


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Device:
    """One version that answers, and what is kept of its requests."""

    def __init__(
        self,
        learner: Learner,
        limits: Limits = ROOM,
        retention: Retention = ALL,
        clock: Hand | None = None,
    ) -> None:
        self.learner, self.clock = learner, clock or Hand()
        self.examples = MemoryExamples(retention)
        self.reads = 0
        self.collector = Collector(
            self.manifest,
            self.read,
            self.examples,
            retention,
            limits,
            self.clock,
            DICE,
        )

    def manifest(self, model: str, version: int | None) -> Manifest:
        if version not in {None, 1}:
            raise NotReady(f"{model}/{version}")
        return self.learner.manifest

    def read(self, digest: str) -> bytes:
        self.reads += 1
        return self.learner.blobs[digest]

    def rows(self, part: Part = Part.TRAINING) -> list[tuple[list[float], float]]:
        layout = self.learner.layout
        data = b"".join(self.examples.rows("learner", layout, part))
        names = layout.dtype.names or ()
        return [
            (row["x"].tolist(), float(row[TRUTH]) if TRUTH in names else -1.0)
            for row in records(layout, data)
        ]
