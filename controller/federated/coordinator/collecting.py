"""One phase from its tasks to what was decided of each: it waits, judges what comes, and decides.

Nothing here is durable by itself: the same tasks and replies give the same decisions again, but for whom
``reach`` gives up: that depends on when it had waited long enough.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.federated.coordinator.admission import (
    Admitted,
    Declined,
    Judgement,
    Refused,
)
from controller.federated.coordinator.errors import Stopped
from controller.federated.coordinator.phase import Answer, Bounds, Close, Wait, verdict
from controller.federated.coordinator.reach import Away, Patience, away
from controller.federated.exchange import Exchange, Outcome, PhaseRecord
from controller.federated.run import RunState
from controller.federated.task import Phase, Task, TaskState

LONGEST_WAIT_SECONDS: Final = 5.0

REST: Final = 4
"""So many times as long as a look takes, there is none."""

MOST_REST_MS: Final = 500

REACH_MS: Final = 1_000
"""Who has a link is looked at so often, and no more."""

Judge = Callable[[bytes, Task], Judgement]
Cohort = Callable[[Mapping[int, Admitted]], Mapping[int, Refused]]
"""Which of the nodes whose replies would count are out of the way, seen beside the others."""


def everybody(_: Mapping[int, Admitted]) -> Mapping[int, Refused]:
    """Nobody is out of the way."""
    return {}


@dataclass(frozen=True, slots=True)
class Collected:
    """A phase that is over, and not yet closed.

    Attributes:
        tasks: all of them, by node id.
        judgements: by task, of those that replied.
        counted: tasks whose replies count, by node id.
        outcomes: of every task.
    """

    tasks: tuple[Task, ...]
    judgements: Mapping[str, Judgement]
    counted: tuple[Task, ...]
    outcomes: tuple[Outcome, ...]
    why: str

    def admitted(self, task: Task) -> Admitted:
        """What was found of a reply that counts."""
        judgement = self.judgements[task.id]
        if not isinstance(judgement, Admitted):
            raise TypeError(f"{task.id} does not count")
        return judgement


def require_running(exchange: Exchange) -> None:
    """Raises ``Stopped`` if the run shall not go on."""
    if exchange.run.state is not RunState.RUNNING:
        raise Stopped


def pause(exchange: Exchange, until_ms: int, look_ms: int = 0) -> None:
    """Until something came, or that moment is there, or a while has passed.

    Where a look takes ``look_ms``, the next is not at once: with many devices looking would be all that
    is done, a reply at a time.
    """
    now_ms = exchange.now_ms()
    exchange.wait(min(max((until_ms - now_ms) / 1000, 0.001), LONGEST_WAIT_SECONDS))
    soonest_ms = now_ms + min(REST * look_ms, MOST_REST_MS)
    while (left := soonest_ms - exchange.now_ms()) > 0:
        exchange.wait(left / 1000)


def collect(
    exchange: Exchange,
    step: int,
    wanted: int,
    judge: Judge,
    cohort: Cohort = everybody,
    patience: Patience | None = None,
) -> Collected:
    """Waits until the posted phase is over.

    Args:
        exchange: where its tasks are.
        step: its number.
        wanted: so many good replies are enough.
        judge: whether a reply counts by itself.
        cohort: what is looked at when enough have come.
        patience: with devices that have no link; None waits for them as for all others.

    Raises:
        Stopped: somebody has stopped the run.
    """
    judgements: dict[str, Judgement] = {}
    reach = _Reach(exchange, patience)
    while True:
        require_running(exchange)
        now_ms = exchange.seen_ms()  # first: what came before is in the tasks
        tasks = tuple(exchange.tasks(step))
        look_ms = exchange.now_ms() - now_ms
        for task in tasks:
            if task.state is TaskState.REPLIED and task.id not in judgements:
                judgements[task.id] = judge(exchange.reply(task.id), task)
        answers = [
            Answer(task.node, task.replied_ms, isinstance(judgements[task.id], Admitted))
            for task in tasks
            if task.id in judgements and task.state is not TaskState.REFUSED
        ]
        fewest = patience.fewest if patience else 0
        bounds = Bounds(len(tasks), wanted, _deadline_ms(tasks), fewest)
        missing = reach.look(tasks, answers, now_ms)
        admitted = {
            task.node: judgement
            for task in tasks
            if isinstance(judgement := judgements.get(task.id), Admitted)
            and task.state is not TaskState.REFUSED
        }
        found, out = _without_outliers(bounds, answers, admitted, cohort, now_ms, missing)
        if isinstance(found, Close):
            return _decided(tasks, judgements, found, out, missing)
        pause(exchange, found.until_ms, look_ms)


class _Reach:
    """Who is away, as it was found a moment ago."""

    def __init__(self, exchange: Exchange, patience: Patience | None) -> None:
        self._exchange = exchange
        self._patience = patience
        self._began_ms = exchange.now_ms()
        self._next_ms = 0
        self._found: Mapping[int, Away] = {}

    def look(
        self, tasks: Sequence[Task], answers: Sequence[Answer], now_ms: int
    ) -> Mapping[int, Away]:
        """Those that have not answered and can't be reached, by node."""
        if self._patience is None or len(answers) >= len(tasks):
            return {}
        if now_ms >= self._next_ms:
            self._next_ms = now_ms + REACH_MS
            answered = {one.node for one in answers}
            nodes = self._exchange.nodes()
            self._found = away(tasks, answered, nodes, self._patience, self._began_ms)
        return self._found


def _without_outliers(
    bounds: Bounds,
    answers: Sequence[Answer],
    admitted: Mapping[int, Admitted],
    cohort: Cohort,
    now_ms: int,
    missing: Mapping[int, Away],
) -> tuple[Wait | Close, Mapping[int, Refused]]:
    """Whether the phase is over, and who is out of the way among those that it was over with.

    Whoever is out of the way fills no quorum: else a quick one could leave too few, round by round.
    """
    out: dict[int, Refused] = {}
    moments = {node: one.until_ms for node, one in missing.items()}
    while True:
        left = [replace(one, good=one.good and one.node not in out) for one in answers]
        found = verdict(bounds, left, now_ms, moments)
        if isinstance(found, Wait):
            return found, out
        together = {
            node: one for node, one in admitted.items() if node in found.counted or node in out
        }
        more = cohort(together)
        if more.keys() <= out.keys():
            return found, out
        out |= more


def _deadline_ms(tasks: Sequence[Task]) -> int:
    """Of the phase; if its run was stopped meanwhile, when the last reply had come."""
    if any(task.state is TaskState.SILENT for task in tasks):
        return max(task.replied_ms for task in tasks)
    return max((task.deadline_ms for task in tasks), default=0)


def _decided(
    tasks: tuple[Task, ...],
    judgements: Mapping[str, Judgement],
    close: Close,
    out: Mapping[int, Refused],
    missing: Mapping[int, Away],
) -> Collected:
    judged = dict(judgements) | {task.id: out[task.node] for task in tasks if task.node in out}
    counted = tuple(task for task in tasks if task.node in close.counted)
    outcomes = tuple(
        outcome_of(task, judged.get(task.id), close.counted, missing.get(task.node))
        for task in tasks
    )
    return Collected(tasks, judged, counted, outcomes, close.why)


def outcome_of(
    task: Task, judgement: Judgement | None, counted: frozenset[int], missing: Away | None = None
) -> Outcome:
    """What is decided of a task, if the replies of those nodes count.

    What was refused before, for its device was revoked, stays so, whatever there was in it.
    """
    if task.state is TaskState.REFUSED:
        return Outcome(task.id, TaskState.REFUSED, task.code, task.reason)
    match judgement:
        case None if missing is not None:
            return Outcome(task.id, TaskState.SILENT, missing.code, missing.reason)
        case None:
            return Outcome(task.id, TaskState.SILENT)
        case Declined(code, reason):
            return Outcome(task.id, TaskState.DECLINED, code, reason)
        case Refused(code, reason):
            return Outcome(task.id, TaskState.REFUSED, code, reason)
        case Admitted():
            state = TaskState.ADMITTED if task.node in counted else TaskState.SURPLUS
            return Outcome(task.id, state)


@dataclass(frozen=True, slots=True)
class Story:
    """What is told of a phase besides its tasks."""

    eligible: int
    why: str
    metrics: Mapping[str, float]
    began_ms: int
    ended_ms: int


def record_of(
    step: int,
    round_: int,
    phase: str,
    tasks: Sequence[Task],
    outcomes: Sequence[Outcome],
    story: Story,
) -> PhaseRecord:
    """The phase as it is shown. ``tasks`` are those that the outcomes are of."""
    counts = Counter(outcome.state for outcome in outcomes)
    reasons = Counter(outcome.code for outcome in outcomes if outcome.code)
    return PhaseRecord(
        step=step,
        round=round_,
        phase=Phase(phase),
        eligible=story.eligible,
        selected=len(outcomes),
        admitted=counts[TaskState.ADMITTED],
        declined=counts[TaskState.DECLINED],
        refused=counts[TaskState.REFUSED],
        surplus=counts[TaskState.SURPLUS],
        silent=counts[TaskState.SILENT],
        reasons=dict(reasons),
        metrics=dict(story.metrics),
        bytes_down=sum(
            len(task.message) + sum(one.length for one in task.arrays) for task in tasks
        ),
        bytes_up=sum(task.reply_length for task in tasks),
        began_ms=story.began_ms,
        ended_ms=story.ended_ms,
        why=story.why,
    )
