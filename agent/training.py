"""What a device has besides, if its owner lets it keep examples: built only then, imported only then."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from agent.around import Around
from agent.config import Training as Settings
from agent.errors import AgentError, NotReady, UnknownModel
from agent.federated.collecting.actions import Collector
from agent.federated.collecting.loop import keep_fresh
from agent.federated.collecting.remembered import Limits
from agent.federated.eligibility import Terms
from agent.federated.examples import ExampleStore
from agent.federated.loop import TaskLoop
from agent.federated.readiness.loop import ReadinessLoop
from agent.federated.readiness.message import Told, told
from agent.federated.retention import DAY_SECONDS, Retention
from agent.federated.surroundings import Surroundings
from agent.federated.tally import Tally
from agent.federated.task.actions import Means
from agent.federated.task.knowledge import Knowledge
from agent.federated.task.loop import Happened
from agent.federated.trainer import Bounds, Budget
from agent.federated.update import Shield, unshielded
from agent.hours import daily_window
from agent.inference.actions import Deployments
from agent.inference.deployments import CHAMPION
from agent.monitor.observer import Observer
from agent.monitor.reference import Reference
from agent.runtimes.trainer import ProcessTrainer
from agent.serving.exposition import Family
from agent.store.blob_folder import BlobFolder
from agent.store.sqlite_examples import EXAMPLES_NAME, open_examples
from agent.telemetry.loop import ReportLoop
from agent.training_metrics import of_examples, of_tasks
from agent.training_note import note_training
from agent.transport.backoff import Backoff
from protos.manifest import Manifest
from protos.v1 import federated_pb2

log = logging.getLogger(__name__)

Serving = Deployments[Observer, Reference]


class Training:
    """Examples, who keeps them, and what is learnt from them in federated runs.

    Attributes:
        collector: for whoever answers requests.
    """

    def __init__(self, around: Around, shield: Shield = unshielded) -> None:
        """Opens the examples; whatever is learnt goes through ``shield`` before it leaves the device.

        Raises:
            StoreTooNew, DiskFull, StoreError: they can't be opened.
        """
        settings = around.config.training
        retention = retention_of(settings)
        self._examples = open_examples(around.home.path / EXAMPLES_NAME, retention)
        self.collector = Collector(
            around.deployments.get,
            around.blobs.read,
            self._examples,
            retention,
            limits_of(settings),
            around.clock,
            around.rng,
        )
        self._clock = around.clock
        self._rounds = Rounds(around, self._examples, shield) if settings.take_part else None

    def loops(self) -> Sequence[Coroutine[Any, Any, Any]]:
        """To be run beside the agent's others."""
        rounds = [] if self._rounds is None else self._rounds.loops()
        return [keep_fresh(self.collector, self._clock), *rounds]

    def take(self, order: federated_pb2.FederatedOrder) -> None:
        """What the controller orders; nothing is done where the owner does not want it."""
        if self._rounds is not None:
            self._rounds.tasks.take(order)

    def link_up(self) -> None:
        """A new link is there."""
        if self._rounds is not None:
            self._rounds.tasks.link_up()
            self._rounds.readiness.link_up()

    def wake(self) -> None:
        """What answers here may have changed."""
        if self._rounds is not None:
            self._rounds.readiness.wake()

    def measured(self) -> Sequence[Family]:
        """What Prometheus is told of it."""
        rounds = self._rounds
        try:
            kept = of_examples(self._examples.models())
        except AgentError as error:
            log.warning("training.not-counted code=%s detail=%s", error.code, error.detail)
            kept = []
        return kept if rounds is None else [*kept, *of_tasks(rounds.tally, rounds.spent)]

    async def rest(self) -> None:
        """Notes that the agent ends because it was asked to, and closes the examples."""
        try:
            if self._rounds is not None:
                await self._rounds.tasks.rest()
            await asyncio.to_thread(self.collector.close)
        except AgentError as error:
            log.warning("training.not-rested code=%s detail=%s", error.code, error.detail)
        self._examples.close()


class Rounds:
    """The device's part in federated runs.

    Attributes:
        tasks: carries them out.
        readiness: tells whether there may be any.
        tally, spent: what was done, and what it took.
    """

    def __init__(self, around: Around, examples: ExampleStore, shield: Shield) -> None:
        serving, settings = around.deployments, around.config.training
        self._knowledge = Knowledge(partial(champions, serving), around.blobs.read, examples)
        self._surroundings = Surroundings(
            around.circumstances,
            partial(inference_seconds, serving),
            around.config.serving.threads,
            around.clock,
        )
        self._terms = terms_of(settings)
        folder, connecting = BlobFolder(around.home.training_blobs), around.config.connecting
        uplink = around.uplink(folder)
        trainer = ProcessTrainer(
            around.blobs.path_of,
            examples,
            budget_of(settings),
            around.workers,
            settings.quiet_seconds,
        )
        self.tally, self.spent = Tally(), trainer.spent
        self.readiness = ReadinessLoop(
            self._look,
            uplink.publish_readiness,
            partial(note_training, around.home.training),
            around.clock,
            around.rng,
        )
        self.tasks = TaskLoop(
            around.store,
            Means(
                blobs=folder,
                uplink=uplink,
                trainer=trainer,
                subjects=self._knowledge.subjects,
                condition=self._surroundings.condition,
                terms=self._terms,
                bounds=bounds_of(settings),
                shield=shield,
                offload=asyncio.to_thread,
            ),
            around.clock,
            around.rng,
            partial(tell, around.reports, self.tally),
            self.readiness.wake,
            Backoff(connecting.backoff_seconds, connecting.backoff_cap_seconds),
        )

    def loops(self) -> Sequence[Coroutine[Any, Any, Any]]:
        """Both."""
        return [self.tasks.run(), self.readiness.run()]

    def _look(self) -> tuple[Told, ...]:
        condition = self._surroundings.condition(self.tasks.journal)
        return told(self._knowledge.subjects(), self._terms, condition)


def tell(reports: ReportLoop, tally: Tally, happened: Happened) -> None:
    """Counts it, and has the controller's log tell of it. A decline is no error: the device decides."""
    tally.happened(happened.name, happened.code)
    task = happened.task
    reports.event(
        happened.name,
        happened.code,
        happened.detail,
        model=task.model,
        version=task.version,
        fields={"run": task.run, "round": str(task.round), "examples": str(task.examples)},
        severity="info",
    )


def retention_of(settings: Settings) -> Retention:
    """How many examples are kept, and for how long."""
    return Retention(
        examples=settings.examples,
        size=settings.example_bytes,
        seconds=settings.days * DAY_SECONDS,
        hold_out=settings.hold_out,
    )


def limits_of(settings: Settings) -> Limits:
    """How many requests wait for their truth."""
    return Limits(settings.remember_requests, settings.remember_bytes, settings.remember_seconds)


def budget_of(settings: Settings) -> Budget:
    """What one task may take."""
    return Budget(
        seconds=settings.seconds,
        waiting_seconds=settings.waiting_seconds,
        memory_bytes=settings.memory_bytes,
        threads=settings.threads,
        steps=settings.steps,
    )


def terms_of(settings: Settings) -> Terms:
    """On which terms it takes part."""
    return Terms(
        examples=settings.fewest_examples,
        held_out=settings.fewest_held_out,
        on_battery=settings.on_battery,
        battery_percent=settings.battery_percent,
        on_metered=settings.on_metered,
        most_busy=settings.most_busy,
        cooling_off_seconds=settings.cooling_off_seconds,
        windows=tuple(one for text in settings.hours if (one := daily_window(text)) is not None),
    )


def bounds_of(settings: Settings) -> Bounds:
    """What an update must keep to."""
    return Bounds(
        fewest_examples=settings.fewest_examples,
        fewest_held_out=settings.fewest_held_out,
        worse_by=settings.worse_by,
        worse_by_more=settings.worse_by_more,
    )


def champions(serving: Serving) -> Mapping[str, Manifest]:
    """The manifest of what answers for each model."""
    found = {}
    for one in serving.hosted():
        if one.slot == CHAMPION and one.ready:
            with contextlib.suppress(UnknownModel, NotReady):  # it has gone since
                found[one.model] = serving.get(one.model, one.version)
    return found


def inference_seconds(serving: Serving) -> Mapping[tuple[str, int], float]:
    """How long requests have been computed, by version, since each was activated."""
    return {
        (one.model, one.version): one.since_activation().latency_sum_seconds
        for one in serving.watched()
    }
