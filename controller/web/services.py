"""What the routes need of the controller, and nothing more: values and adapters, wired in one place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from agent.clock import Clock
from agent.runtimes.runtime import Runtime
from controller.enrolment.terms import Terms
from controller.registry.actions import Preparing
from controller.signing.publication import Act, OnlineSigners
from controller.signing.roles import DEFAULT_LIFETIMES, Lifetimes
from controller.store.blob_store import BlobStore
from controller.store.store import Store, Transaction


@dataclass(frozen=True, slots=True)
class ControllerServices:
    """What ``create_app`` builds on. Every callable may be called from any thread.

    Attributes:
        store: every route is one transaction of it.
        blobs: bundles' files.
        runtime: runs a model as a device will, when a version is registered.
        clock: the time.
        online: signs snapshot and timestamp when something is published.
        terms: what join tokens bear, as of now: the TUF root may have been replaced meanwhile.
        wake_rollouts: plan soon: rollouts, labels or versions have changed.
        wake_runs: look soon: a federated run has begun, or is to end.
        announce: tell connected devices that new image metadata was published.
        disconnect: cut a device's live link; returns at once.
        lifetimes: of what is signed.
        join_token_seconds: how long a join token serves unless its maker says otherwise.
        generator: where registration takes its randomness from.
        open_metrics: ``/metrics`` asks for no token.
        preparing: tries models that are to be registered; None for this very process, by
            ``runtime``.
    """

    store: Store
    blobs: BlobStore
    runtime: Runtime
    clock: Clock
    online: OnlineSigners
    terms: Callable[[], Terms]
    wake_rollouts: Callable[[], None]
    announce: Callable[[], None]
    disconnect: Callable[[str], None]
    lifetimes: Lifetimes = DEFAULT_LIFETIMES
    join_token_seconds: float = 86_400.0
    generator: Callable[[], np.random.Generator] = np.random.default_rng
    open_metrics: bool = False
    preparing: Preparing | None = None
    wake_runs: Callable[[], None] = lambda: None

    def now(self) -> float:
        """Unix seconds."""
        return self.clock.now().timestamp()

    @contextmanager
    def replanning(self) -> Iterator[tuple[Transaction, float]]:
        """A transaction and its time, in Unix seconds; once it is committed, rollouts are planned."""
        now = self.now()
        with self.store.begin() as tx:
            yield tx, now
        self.wake_rollouts()

    def act(self, by: str) -> Act:
        """What signing actions ask: who does it, and when."""
        return Act(by, self.clock.now(), self.lifetimes)
