"""A user's own app, brought to where it was: what it asked is compared, what it was told is told again.

A Flower app is code with a state that nobody can save. But all that it learns, it learns through its
``Grid``; so a coordinator that was killed runs it from its start, with the same seeds, and answers what
is closed already from what is stored, until it asks something new.

Steps of the run are numbered as the app takes them: a phase of messages, or a change of the list of nodes
that it saw. The second kind has no tasks; the lists are in the checkpoint, each with the number of the
call that saw it first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controller.federated.coordinator import checkpoint, selection
from controller.federated.coordinator.admission import Code
from controller.federated.coordinator.app_reply import judged_reply, odd_or_outlying, reply_of
from controller.federated.coordinator.collecting import (
    Collected,
    Story,
    collect,
    pause,
    record_of,
    require_running,
)
from controller.federated.coordinator.errors import AppNotDeterministic, AppUnfit, TooFewDevices
from controller.federated.coordinator.fleet import Fleet
from controller.federated.coordinator.mean import mean_metrics
from controller.federated.coordinator.phase import size
from controller.federated.coordinator.reach import Patience
from controller.federated.coordinator.request import (
    Posting,
    Request,
    error_message,
    fingerprint_of_task,
    fingerprints,
    tasks_of,
)
from controller.federated.exchange import Checkpoint, Exchange, Outcome, PhaseRecord
from controller.federated.plan import Plan
from controller.federated.schedule import Place
from controller.federated.task import Phase, Task, TaskState, task_id

MOST_ATTEMPTS: Final = 5
PATIENCE: Final = 2
"""So often the same list of nodes is given before an app that only looks has to wait for another."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of some messages: their ids in order, and replies by id, by node."""

    ids: tuple[str, ...]
    replies: Mapping[str, bytes]


class Journal:
    """An app's way to the fleet; the same calls get the same answers after a restart."""

    def __init__(self, exchange: Exchange, plan: Plan, initial_sha256: str) -> None:
        self._exchange = exchange
        self._plan = plan
        self._closed = {record.step: record for record in exchange.phases()}
        self._step = 1
        self._calls = 0
        self._looks = 0
        self._listed: tuple[int, ...] = ()
        self._lists: list[tuple[int, tuple[int, ...]]] = []
        self._arrays = initial_sha256
        self._round = 0
        stored = exchange.checkpoint()
        if stored is not None and stored.state:
            state = checkpoint.read(stored.state)
            self._lists = [(call, tuple(nodes.tolist())) for call, nodes in state["lists"]]
            self._arrays, self._round = stored.arrays_sha256, stored.round

    @property
    def number(self) -> int:
        """Flower's run id."""
        return self._exchange.run.number

    @property
    def round(self) -> int:
        """The round that the app asked for last."""
        return self._round

    @property
    def begun_by_app(self) -> bool:
        """Whether its first step was the app's, as in runs that an earlier release has begun."""
        asked: list[PhaseRecord | Task] = list(self._exchange.tasks(1)[:1])
        if 1 in self._closed:
            asked.append(self._closed[1])
        return any((one.phase, one.round) != (Phase.EVALUATE, 0) for one in asked)

    def evaluate(self, arrays: bytes, round_: int) -> None:
        """Has devices evaluate parameters that the app does not send, as after rounds without an app.

        Raises:
            Stopped: somebody has stopped the run.
        """
        if self._step not in self._closed:
            fleet, place = Fleet(self._exchange, self._plan), Place(self._step - 1, round_)
            record, outcomes = fleet.evaluate(place, arrays)
            self._close(record, outcomes)
        self._step += 1

    def node_ids(self) -> tuple[int, ...]:
        """Nodes that would take part.

        Raises:
            TooFewDevices: the app has waited for others for as long as a phase may take.
            Stopped: somebody has stopped the run.
        """
        require_running(self._exchange)
        self._calls += 1
        self._looks += 1
        again = next((nodes for call, nodes in self._lists if call == self._calls), None)
        if again is not None:
            self._listed = again
            self._step += 1
        elif self._step not in self._closed and not self._exchange.tasks(self._step):
            self._look()
        return self._listed

    def _look(self) -> None:
        """The list as it is now; a change is durable before the app sees it."""
        exchange = self._exchange
        began_ms = exchange.now_ms()
        found = selection.ready(exchange.nodes())
        until_ms = began_ms + round(1000 * self._plan.round.deadline)
        while found == self._listed and self._looks > PATIENCE:
            if exchange.now_ms() > until_ms:
                raise TooFewDevices(f"{len(found)} are ready, and the app waits for others")
            pause(exchange, until_ms)
            require_running(exchange)
            found = selection.ready(exchange.nodes())
        if found == self._listed and self._lists:
            return
        self._lists.append((self._calls, found))
        self._listed = found
        story = Story(len(found), "nodes were listed", {}, began_ms, exchange.now_ms())
        self._close(record_of(self._step, self._round, Phase.QUERY, (), (), story), ())
        self._step += 1

    def send(self, requests: Sequence[Request], timeout: float | None = None) -> Sent:
        """What came of the messages; a training that too few answered well is asked for again.

        Raises:
            AppNotDeterministic: they are not those of before the restart.
            AppUnfit: two of them are for one node.
            TooFewDevices: too few replied well, again and again.
            Stopped: somebody has stopped the run.
        """
        if not requests:
            return Sent((), {})
        if len({one.node for one in requests}) != len(requests):
            raise AppUnfit("it sends two messages to one node at once")
        self._looks = 0
        why = ""
        for _ in range(MOST_ATTEMPTS):
            step = self._step
            self._compare(step, requests)
            record = self._closed.get(step) or self._ask(step, requests, timeout)
            self._step += 1
            needed = self._needed(requests)
            if record.admitted >= needed:
                return self._sent(step, requests)
            why = f"{record.admitted} of {record.selected} replied well, {needed} are needed"
        raise TooFewDevices(f"{MOST_ATTEMPTS} times in a row: {why}")

    def _needed(self, requests: Sequence[Request]) -> int:
        trains = requests[0].message.metadata.message_type.partition(".")[0] == Phase.TRAIN
        return min(self._plan.round.minimum_cohort, len(requests)) if trains else 0

    def _compare(self, step: int, requests: Sequence[Request]) -> None:
        """Whether the step's tasks, if there are any, are what the app asks now."""
        before = {task.node: fingerprint_of_task(task) for task in self._exchange.tasks(step)}
        now = fingerprints(requests)
        changed = {node for node, asked in before.items() if now.get(node) != asked}
        if changed:
            raise AppNotDeterministic(
                f"step {step}: it asks {len(changed)} of {len(before)} nodes something else than "
                "before the restart"
            )

    def _ask(self, step: int, requests: Sequence[Request], timeout: float | None) -> PhaseRecord:
        exchange, now_ms = self._exchange, self._exchange.now_ms()
        tasks = exchange.tasks(step)
        if not tasks:
            seconds = min(self._plan.round.deadline, timeout or self._plan.round.deadline)
            posting = Posting(
                run=exchange.run.id,
                number=exchange.run.number,
                step=step,
                encoding=self._plan.update.wire,
                now_ms=now_ms,
                deadline_ms=now_ms + round(1000 * seconds),
                reply_bytes=self._plan.admission.reply_bytes,
            )
            nodes = {one.id: one for one in exchange.nodes()}
            tasks = tasks_of(requests, posting, nodes, exchange)
            exchange.post(tasks)
        bounds = size(len(tasks), 1.0, 1.0, self._plan.round.quorum, self._needed(requests))
        terms = self._plan.admission
        found = collect(
            exchange,
            step,
            bounds.wanted,
            lambda data, task: judged_reply(data, task, exchange, terms),
            lambda together: odd_or_outlying(together, terms.norm_ratio),
            Patience(self._plan.round.patience, self._needed(requests)),
        )
        return self._finish(step, tasks, found)

    def _finish(self, step: int, tasks: Sequence[Task], found: Collected) -> PhaseRecord:
        first = tasks[0] if tasks else None
        if first is not None and first.arrays:
            self._arrays = first.arrays[0].sha256
        self._round = first.round if first is not None else self._round
        replies = [
            (found.admitted(one).weight, found.admitted(one).metrics) for one in found.counted
        ]
        metrics = mean_metrics(replies)
        began_ms = first.posted_ms if first is not None else self._exchange.now_ms()
        story = Story(len(self._listed), found.why, metrics, began_ms, self._exchange.now_ms())
        phase = first.phase if first is not None else Phase.QUERY
        record = record_of(step, self._round, phase, found.tasks, found.outcomes, story)
        self._close(record, found.outcomes)
        return record

    def _close(self, record: PhaseRecord, outcomes: Sequence[Outcome]) -> None:
        lists: list[checkpoint.State] = [
            [call, np.array(nodes, np.uint64)] for call, nodes in self._lists
        ]
        state = checkpoint.written({"lists": lists})
        kept = Checkpoint(record.step, record.round, self._arrays, state)
        self._exchange.close(outcomes, record, kept)
        self._closed[record.step] = record

    def _sent(self, step: int, requests: Sequence[Request]) -> Sent:
        """The replies of a step that is closed, as they are stored."""
        exchange = self._exchange
        tasks = {task.node: task for task in exchange.tasks(step)}
        ids, replies = [], {}
        for one in sorted(requests, key=lambda request: request.node):
            task = tasks.get(one.node)
            name = task.id if task else task_id(exchange.run.id, step, one.node)
            ids.append(name)
            if task is None:
                words = "no device of this run"
                replies[name] = error_message(name, one, self.number, Code.MISSING, words)
            elif task.state is TaskState.ADMITTED:
                replies[name] = reply_of(
                    exchange.reply(task.id), task, exchange, self._plan.admission
                )
            elif task.state in {TaskState.DECLINED, TaskState.REFUSED}:
                replies[name] = error_message(name, one, self.number, task.code, task.reason)
        return Sent(tuple(ids), replies)
