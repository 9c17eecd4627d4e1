"""A registry with a trainable version, a fleet that tells of its data, and what a run has brought."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.federated.evaluation import Evaluation, evaluated
from agent.monitor.counts import Counts
from agent.monitor.observer import Observer
from agent.monitor.reference import read_reference
from agent.monitor.verdict import judge
from agent.monitor.window import OpenWindow
from agent.monitor.wire import window_message
from controller.candidate.actions import Means, here, register_candidate
from controller.candidate.trained import Float32s, Trained
from controller.registry.author_text import AuthorText
from controller.registry.registration import Registered
from controller.registry.training import Training
from controller.telemetry.record import StoredWindow
from protos.manifest import Role
from protos.train_step import Loss
from tests.controller.registry.building import WEIGHTS, classifier, rows_and_truth
from tests.controller.registry.registry import NOW, Registry

DEVICES = ("d0", "d1", "d2", "d3")
SHIFT: Float32s = np.array([1, 1, 1, 0], np.float32)  # to which the weights are blind
TURNED: Float32s = np.asarray(0.02 * WEIGHTS[::-1] - WEIGHTS, np.float32)
"""What training leaves when the world is turned about: the contrary of what was, but for a little."""


def turned(rows: int = 600, seed: int = 11) -> tuple[Float32s, NDArray[np.int64]]:
    """Every feature has the other sign now, and some more; the truth is what it was."""
    x, truth = rows_and_truth(rows, seed)
    return SHIFT - x, truth


def evaluation(weights: Float32s, rows: int = 600) -> Evaluation:
    """How good a model of these weights is in the turned world."""
    x, truth = turned(rows, seed=12)
    return evaluated(Loss.SOFTMAX_CROSS_ENTROPY, 0.5, x @ weights, truth)


def trained(**changes: Any) -> Trained:
    """What a run of three rounds has brought, by four devices."""
    found = Trained(
        run="run-7",
        round=3,
        parameters={"w": TURNED},
        devices=4,
        evaluated=4,
        before=evaluation(WEIGHTS),
        after=evaluation(TURNED),
    )
    return dataclasses.replace(found, **changes)


def answered(x: Float32s, weights: Float32s) -> dict[str, NDArray[Any]]:
    logits = x @ weights
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {
        "label": logits.argmax(axis=1),
        "probabilities": np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32),
    }


def counted(profile: bytes, x: Float32s, weights: Float32s) -> Counts:
    """The rows and the answers of a model of these weights, as a device counts them."""
    observer = Observer(read_reference(profile))
    observer.observe({"x": x}, answered(x, weights))
    return observer.drain()


class Fleet:
    """A registry whose version 1 runs on devices that see the turned world."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.parent = self.registry.register(
            classifier(),
            training=Training(trainable="all"),
            text=AuthorText(description="Tells things apart.", limitations=("three kinds",)),
            git_commit="c0ffee",
        )
        self.registry.publish(self.parent)
        self.profile = self.file(Role.REFERENCE)

    def file(self, role: Role, of: Registered | None = None) -> bytes:
        return self.registry.blob(of or self.parent, role)

    def tell(self, device: str, rows: int = 400, sequence: int = 1) -> None:
        """The device has closed a window."""
        x, _ = turned(rows, seed=sum(map(ord, device)) + sequence)
        self.told(device, counted(self.profile, x, WEIGHTS), sequence)

    def told(self, device: str, counts: Counts, sequence: int = 1) -> None:
        """The device has closed a window with these counts."""
        manifest = self.parent.manifest
        name = f"{device}-{sequence}"
        window = OpenWindow(name, "things", 1, manifest.digest, 1000 * sequence, counts)
        judgement = judge(read_reference(self.profile), counts)
        message = window_message(window, 1000 * sequence + 500, judgement)
        stored = StoredWindow(
            device=device,
            spool="s",
            sequence=sequence,
            model="things",
            version=1,
            profile_sha256=counts.profile,
            window_id=name,
            started_ms=1000 * sequence,
            ended_ms=1000 * sequence + 500,
            rows=counts.rows,
            verdict=message.verdict,
            payload=message.SerializeToString(),
        )
        with self.registry.tx() as tx:
            tx.telemetry.add_windows([stored])

    def candidate(self, found: Trained, **options: Any) -> Registered:
        registry = self.registry
        means = Means(registry.store, registry.blobs, here(registry.runtime), 3)
        return register_candidate(means, "things/1", found, "ann", NOW, **options)
