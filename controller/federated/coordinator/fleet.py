"""What both kinds of drivers do with the fleet: they wait for nodes, ask them, evaluate, and close."""

from collections.abc import Sequence
from typing import Final

from controller.federated.coordinator import selection
from controller.federated.coordinator.admission import judged_evaluation, odd_evaluations
from controller.federated.coordinator.collecting import (
    Story,
    collect,
    pause,
    record_of,
    require_running,
)
from controller.federated.coordinator.hearing import heard
from controller.federated.coordinator.phase import size
from controller.federated.coordinator.reach import Patience
from controller.federated.coordinator.request import (
    ROUND,
    Group,
    Posting,
    Request,
    Scalar,
    group_of,
    request,
    tasks_of,
)
from controller.federated.evaluation_told import metrics_of
from controller.federated.exchange import Exchange, Outcome, PhaseRecord
from controller.federated.plan import Plan
from controller.federated.schedule import Place
from controller.federated.task import Phase, Task, TaskState

EVALUATION_DRAW: Final = 1
"""Beside the seed and the step: what is drawn, so that no two draws are the same."""


def training_config(plan: Plan, round_: int) -> dict[str, Scalar]:
    """What devices are told of how to train: the keys that Flower's own examples use."""
    one = plan.training
    return {
        ROUND: round_,
        "local-epochs": one.epochs,
        "batch-size": one.batch_size,
        "lr": one.learning_rate,
        "momentum": one.momentum,
        "proximal-mu": one.proximal,
        "max-steps": one.max_steps,
    }


class Fleet:
    """One run's devices."""

    def __init__(self, exchange: Exchange, plan: Plan) -> None:
        self.exchange = exchange
        self.plan = plan

    def ready(self, needed: int) -> tuple[int, ...]:
        """Nodes that would take part; fewer than ``needed`` after as long as a phase may take.

        Raises:
            Stopped: somebody has stopped the run.
        """
        until_ms = self.exchange.now_ms() + round(1000 * self.plan.round.deadline)
        while True:
            require_running(self.exchange)
            found = selection.ready(self.exchange.nodes())
            if len(found) >= needed or self.exchange.now_ms() > until_ms:
                return found
            pause(self.exchange, until_ms)

    def ask(self, step: int, requests: Sequence[Request], group: Group) -> list[Task]:
        """Posts the requests as tasks of the step; they may be there already."""
        now_ms = self.exchange.now_ms()
        run = self.exchange.run
        posting = Posting(
            run=run.id,
            number=run.number,
            step=step,
            encoding=self.plan.update.wire,
            now_ms=now_ms,
            deadline_ms=now_ms + round(1000 * self.plan.round.deadline),
            reply_bytes=self.plan.admission.reply_bytes,
            group=str(group),
        )
        nodes = {one.id: one for one in self.exchange.nodes()}
        tasks = tasks_of(requests, posting, nodes, self.exchange)
        self.exchange.post(tasks)
        return tasks

    def evaluate(
        self, place: Place, arrays: bytes, busy: frozenset[int] = frozenset()
    ) -> tuple[PhaseRecord, Sequence[Outcome]]:
        """How good the parameters are on what devices hold out: counts, taken together by ``heard``.

        Of the devices that told of the parent alone, where these are ``comparable``: so that who told
        nothing of it decides nothing. Who told of the parent and not of this stays in what is known of
        the parent; where most did so, nothing is known of it in the end (``federation.trained``).
        Nodes that are ``busy`` are not asked. Where too few tell, nothing is known.

        Raises:
            Stopped: somebody has stopped the run.
        """
        exchange, step = self.exchange, place.step + 1
        began_ms = exchange.now_ms()
        tasks = exchange.tasks(step)
        if not tasks:
            tasks = self._ask_to_evaluate(place, arrays, busy)
        group = group_of(tasks[0]) if tasks else Group(0, 0)
        patience = Patience(self.plan.round.patience, self.plan.fewest_told)
        found = collect(exchange, step, group.wanted, judged_evaluation, odd_evaluations, patience)
        told = {
            task.id: one
            for task in found.counted
            if (one := found.admitted(task).evaluation) is not None and one.examples
        }
        spare = {task.id for task in found.counted} - told.keys()  # they have told of nothing
        fewest = self.plan.fewest_told
        why = found.why if tasks else "nobody was ready to evaluate"
        before = self._told_before()
        new = {task.id for task in found.counted if task.id in told and task.node not in before}
        if not comparable(len(told) - len(new), len(before), len(told), fewest):
            new = set()
        if new:
            why = f"{why}; {len(new)} that told nothing of the parent are left out"
        if tasks and len(told) < fewest:
            why = f"{why}; {len(told)} held examples out, {fewest} are needed: nothing is known"
            told = {}
        merged = heard(
            [told[one] for one in told if one not in new], self.plan.admission.most_examples
        )
        story = Story(group.eligible, why, metrics_of(merged), began_ms, exchange.now_ms())
        outcomes = [
            Outcome(one.task, TaskState.SURPLUS) if one.task in new | spare else one
            for one in found.outcomes
        ]
        record = record_of(step, place.round, Phase.EVALUATE, found.tasks, outcomes, story)
        return record, outcomes

    def _ask_to_evaluate(self, place: Place, arrays: bytes, busy: frozenset[int]) -> Sequence[Task]:
        """Those first who have told how good the parent is: so that like is compared with like."""
        plan, step = self.plan, place.step + 1
        fewest = plan.fewest_told
        free = tuple(one for one in self.ready(fewest) if one not in busy)
        sizes = size(len(free), plan.evaluation.fraction, 1.0, plan.round.quorum, fewest)
        draw = selection.generator(plan.run.seed, step, EVALUATION_DRAW)
        others = frozenset(free) - self._told_before()
        nodes = selection.rotated(free, sizes.asked, others, draw)
        config = {ROUND: place.round}
        requests = [request(Phase.EVALUATE, one, arrays, config) for one in nodes]
        return self.ask(step, requests, Group(len(free), sizes.wanted))

    def _told_before(self) -> frozenset[int]:
        """Nodes that counted in the run's first evaluation."""
        for one in self.exchange.phases():
            if one.phase is Phase.EVALUATE:
                tasks = self.exchange.tasks(one.step)
                return frozenset(task.node for task in tasks if task.state is TaskState.ADMITTED)
        return frozenset()


def comparable(same: int, before: int, now: int, fewest: int) -> bool:
    """Whether ``same`` devices are enough to speak for all that told before, and for all that tell now."""
    return same >= fewest and 2 * same >= max(before, now)
