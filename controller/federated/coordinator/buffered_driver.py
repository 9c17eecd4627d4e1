"""The asynchronous mode: one phase a version, whose tasks outlive it until they are answered or stale.

A version's tasks are posted in its own step, as devices become free; what is closed with a version are
the tasks that were answered in it, of whichever step.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.federated.coordinator import buffered, checkpoint, selection
from controller.federated.coordinator.admission import (
    Admitted,
    Code,
    Judgement,
    Refused,
    judged_update,
    outliers,
    update_of,
)
from controller.federated.coordinator.app_reply import terms_of
from controller.federated.coordinator.buffered import Arrival, Buffer, Taken
from controller.federated.coordinator.collecting import (
    Story,
    outcome_of,
    pause,
    record_of,
    require_running,
)
from controller.federated.coordinator.driver import MOST_ATTEMPTS
from controller.federated.coordinator.errors import NoAggregate, TooFewDevices
from controller.federated.coordinator.fleet import Fleet, training_config
from controller.federated.coordinator.mean import mean_metrics
from controller.federated.coordinator.reach import Patience, away
from controller.federated.coordinator.request import (
    ARRAYS,
    Group,
    arrays_of,
    request,
    written_arrays,
)
from controller.federated.coordinator.shipped import to_evaluate
from controller.federated.exchange import Checkpoint, Exchange, Outcome, PhaseRecord
from controller.federated.plan import Plan
from controller.federated.schedule import (
    Place,
    Work,
    evaluated,
    failed,
    next_work,
    trained,
)
from controller.federated.task import OPEN, Phase, Task, TaskState

Float32s = NDArray[np.float32]
MOST_NODES: Final = 500
"""With the last update of each of so many devices, the newest, the next ones are compared."""


class BufferedDriver:
    """One run in the asynchronous mode, from where its newest checkpoint has it."""

    def __init__(self, exchange: Exchange, plan: Plan, initial: bytes) -> None:
        self._fleet = Fleet(exchange, plan)
        self._exchange = exchange
        self._plan = plan
        self._terms = terms_of(plan.admission, ARRAYS)
        self._began_ms = exchange.now_ms()
        self._place = Place()
        self._parent = self._record = initial
        self._versions: dict[int, int] = {}  # step of training -> version that its tasks began with
        self._judgements: dict[str, Judgement] = {}
        self._lengths: dict[int, float] = {}  # of the last update of each node
        stored = exchange.checkpoint()
        if stored is not None and stored.state:
            state = checkpoint.read(stored.state)
            self._place = Place(**state["place"])
            self._versions = {int(step): version for step, version in state["versions"].items()}
            kept = state.get("lengths", {})  # older releases kept none by node
            self._lengths = {int(node): length for node, length in kept.items()}
            self._record = exchange.arrays(stored.arrays_sha256)
        self._seen = self._lengths  # with those that the next version is made of
        if self._place.attempts >= MOST_ATTEMPTS:
            self._place = Place(**{**asdict(self._place), "attempts": 0})

    def drive(self) -> None:
        """Goes on until the run is done, and says so. Raises as ``Driver.drive``."""
        while True:
            match next_work(self._place, self._plan.run.rounds, self._plan.evaluation):
                case Work.EVALUATE:
                    self._evaluate()
                case Work.TRAIN:
                    self._train()
                case Work.NOTHING:
                    self._exchange.finish(self._exchange.put_arrays(self._record))
                    return

    def _evaluate(self) -> None:
        busy = frozenset(task.node for task in self._tasks() if task.state in OPEN)
        arrays = to_evaluate(self._plan, self._place, self._parent, self._record)
        record, outcomes = self._fleet.evaluate(self._place, arrays, busy)
        self._close(evaluated(self._place), record, outcomes)

    def _train(self) -> None:
        exchange, step = self._exchange, self._place.step + 1
        self._versions[step] = self._place.round
        began_ms = exchange.now_ms()
        while True:
            require_running(exchange)
            now_ms = exchange.seen_ms()  # first: what came before is in the tasks
            tasks, posted = self._tasks(), exchange.tasks(step)
            look_ms = exchange.now_ms() - now_ms
            if posted:
                began_ms = min(task.posted_ms for task in posted)
            deadline_ms = began_ms + round(1000 * self._plan.round.deadline)
            if any(
                task.state is TaskState.SILENT for task in posted
            ):  # the run was stopped meanwhile
                deadline_ms = max(task.replied_ms for task in posted)
            found = self._taken(self._arrivals(tasks), deadline_ms, now_ms)
            if found is not None:
                self._take(step, tasks, found, began_ms)
                return
            self._ask(step, tasks)
            until_ms = now_ms if _waits(tasks, now_ms) else deadline_ms
            pause(exchange, until_ms + 1, look_ms)

    def _taken(self, arrivals: Sequence[Arrival], deadline_ms: int, now_ms: int) -> Taken | None:
        """What makes the next version, without updates that are too long beside those before and now.

        Those fill no buffer: others take their place, as far as any have come.
        """
        plan, out = self._plan, dict[str, Refused]()
        while True:
            left = [replace(one, good=one.good and one.task not in out) for one in arrivals]
            found = buffered.taken(
                left, plan.round.buffer, plan.round.minimum_cohort, deadline_ms, now_ms
            )
            if found is None:
                return None
            names = out.keys() | {one.task for one in found.counted}
            together = {
                one.task: judgement
                for one in arrivals
                if one.task in names
                and isinstance(judgement := self._judgements[one.task], Admitted)
            }
            seen = [(one.node, together[one.task].norm) for one in _in_order(arrivals, together)]
            lengths = remembered(self._lengths, seen)
            more = outliers(together, self._terms.norm_ratio, lengths.values())
            if more.keys() <= out.keys():
                judged = {one.task for one in found.judged}
                self._seen = lengths
                self._judgements |= {task: one for task, one in out.items() if task in judged}
                return found
            out |= more

    def _tasks(self) -> list[Task]:
        """Those that are not done with, of all versions."""
        return [
            task
            for step in sorted(self._versions)
            for task in self._exchange.tasks(step)
            if task.state in OPEN or task.state is TaskState.REPLIED
        ]

    def _arrivals(self, tasks: Sequence[Task]) -> list[Arrival]:
        arrivals = []
        for task in tasks:
            if task.state is not TaskState.REPLIED:
                continue
            if task.id not in self._judgements:
                base = arrays_of(self._exchange.arrays(task.arrays[0].sha256))
                data = self._exchange.reply(task.id)
                self._judgements[task.id] = judged_update(data, task, self._terms, base)
            good = isinstance(self._judgements[task.id], Admitted)
            version = self._versions[task.step]
            arrivals.append(Arrival(task.id, task.node, version, task.replied_ms, good))
        return arrivals

    def _ask(self, step: int, tasks: Sequence[Task]) -> None:
        """Whoever is free, until so many are at work as may be."""
        plan, exchange = self._plan, self._exchange
        now_ms, known = exchange.now_ms(), exchange.nodes()
        patience = Patience(plan.round.patience, 0)
        out = away(tasks, (), known, patience, self._began_ms)
        busy = frozenset(
            task.node
            for task in tasks
            if task.state in OPEN
            and now_ms <= task.deadline_ms
            and not (task.node in out and out[task.node].until_ms < now_ms)
        )
        asked = frozenset(task.node for task in exchange.tasks(step))
        ready = selection.ready(known)
        candidates = buffered.free(ready, busy, asked)
        places = plan.round.concurrency - len(busy)
        if not candidates or places < 1:
            return
        draw = selection.generator(plan.run.seed, step, len(asked))
        nodes = selection.drawn(candidates, places, draw)
        config = training_config(plan, self._place.round + 1)
        requests = [request(Phase.TRAIN, node, self._record, config) for node in nodes]
        self._fleet.ask(step, requests, Group(len(ready), plan.round.buffer))

    def _take(self, step: int, tasks: Sequence[Task], found: Taken, began_ms: int) -> None:
        """Closes the version with what was taken in."""
        by_id = {task.id: task for task in tasks}
        counted = frozenset(one.task for one in found.counted)
        metrics: Mapping[str, float] = {}
        place, problem = failed(self._place), None
        if found.counted:
            try:
                self._record, metrics = self._next(found, by_id)
                place = trained(self._place)
            except NoAggregate as error:  # they are done with: the next attempt is made of others
                problem = error
        why = f"{found.why}; {problem}" if problem else found.why
        outcomes = [
            outcome_of(by_id[one.task], self._judgements[one.task], frozenset({one.node}))
            for one in found.judged
        ]
        done = counted | {one.task for one in found.judged}
        outcomes += self._given_up([task for task in tasks if task.id not in done], place)
        told = [by_id[outcome.task] for outcome in outcomes]
        eligible = len(selection.ready(self._exchange.nodes()))
        story = Story(eligible, why, metrics, began_ms, self._exchange.now_ms())
        record = record_of(step, self._place.round + 1, Phase.TRAIN, told, outcomes, story)
        self._close(place, record, outcomes)
        for outcome in outcomes:
            self._judgements.pop(outcome.task, None)
        if place.attempts >= MOST_ATTEMPTS:
            raise TooFewDevices(f"version {place.round + 1}, {MOST_ATTEMPTS} times: {why}")

    def _next(self, found: Taken, tasks: Mapping[str, Task]) -> tuple[bytes, Mapping[str, float]]:
        """The next parameters, and the mean of what devices told."""
        buffer, metrics = Buffer(), []
        for one in found.counted:
            task, judgement = tasks[one.task], self._judgements[one.task]
            base = arrays_of(self._exchange.arrays(task.arrays[0].sha256))
            after = update_of(self._exchange.reply(task.id), self._terms, base)
            buffer.add(after, base, buffered.discount(self._place.round - one.version))
            if isinstance(judgement, Admitted):
                metrics.append((judgement.weight, judgement.metrics))
        with np.errstate(over="ignore"):
            moved = buffer.moved(arrays_of(self._record))
        if not all(np.isfinite(array).all() for array in moved.values()):
            raise NoAggregate("the updates together move a parameter to where no float32 is")
        return written_arrays(moved), mean_metrics(metrics)

    def _given_up(self, tasks: Sequence[Task], place: Place) -> list[Outcome]:
        """Tasks that are too late or too old for the next version, or that none waits for."""
        last, now_ms = place.round >= self._plan.run.rounds, self._exchange.now_ms()
        outcomes = []
        for task in tasks:
            age = place.round - self._versions[task.step]
            stale = age > self._plan.round.staleness
            if task.state in OPEN and (last or stale or now_ms > task.deadline_ms):
                outcomes.append(Outcome(task.id, TaskState.SILENT))
            elif task.state is TaskState.REPLIED and last:
                nobody: frozenset[int] = frozenset()
                outcomes.append(outcome_of(task, self._judgements.get(task.id), nobody))
            elif task.state is TaskState.REPLIED and stale:
                words = f"it is {age} versions old; {self._plan.round.staleness} at most"
                outcomes.append(Outcome(task.id, TaskState.REFUSED, Code.STALE, words))
        return outcomes

    def _close(self, place: Place, record: PhaseRecord, outcomes: Sequence[Outcome]) -> None:
        self._place, self._lengths = place, self._seen
        oldest = place.round - self._plan.round.staleness
        self._versions = {
            step: version
            for step, version in self._versions.items()
            if version >= oldest and place.round < self._plan.run.rounds
        }
        versions = {str(step): version for step, version in self._versions.items()}
        lengths = {str(node): length for node, length in self._lengths.items()}
        state = checkpoint.written(
            {"place": asdict(place), "versions": versions, "lengths": lengths}
        )
        digest = self._exchange.put_arrays(self._record)
        self._exchange.close(outcomes, record, Checkpoint(place.step, place.round, digest, state))


def remembered(
    lengths: Mapping[int, float], newer: Iterable[tuple[int, float]]
) -> dict[int, float]:
    """Of each node the newest, those that were told last at the end; of ``MOST_NODES``."""
    found = dict(lengths)
    for node, length in newer:
        found.pop(node, None)
        found[node] = length
    return dict(list(found.items())[-MOST_NODES:])


def _in_order(arrivals: Sequence[Arrival], wanted: Container[str]) -> list[Arrival]:
    """Those of the wanted tasks, as they came."""
    mine = [one for one in arrivals if one.task in wanted]
    return sorted(mine, key=lambda one: (one.at_ms, one.node, one.version))


def _waits(tasks: Sequence[Task], now_ms: int) -> bool:
    """Whether a reply came in this very millisecond: it is over in the next."""
    return any(task.state is TaskState.REPLIED and task.replied_ms >= now_ms for task in tasks)
