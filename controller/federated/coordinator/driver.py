"""Rounds, one after the other, over a strategy's public hooks: instead of Flower's ``Strategy.start``.

What that lacks is here: nodes that are ready, over-selection, quorum and deadline, a minimum cohort, the
admission check, float32, and a checkpoint whenever a phase is closed. A coordinator that is killed at any
moment goes on from the newest checkpoint with the tasks that stand, to the same bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.federated.coordinator import checkpoint, selection
from controller.federated.coordinator.admission import judged_update, odd_ones, outliers, update_of
from controller.federated.coordinator.app_reply import terms_of
from controller.federated.coordinator.collecting import Collected, Story, collect, record_of
from controller.federated.coordinator.errors import NoAggregate, TooFewDevices
from controller.federated.coordinator.fleet import Fleet, training_config
from controller.federated.coordinator.mean import WeightedMean, mean_metrics
from controller.federated.coordinator.phase import size
from controller.federated.coordinator.reach import Patience
from controller.federated.coordinator.request import (
    ARRAYS,
    Group,
    Request,
    arrays_of,
    group_of,
    written_arrays,
)
from controller.federated.coordinator.shipped import to_evaluate
from controller.federated.coordinator.strategy import Strategy, Update
from controller.federated.coordinator.tail import Tail
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
from controller.federated.task import Phase, Task

MOST_ATTEMPTS: Final = 5
"""So often one round is tried; then the run fails."""

NOBODY: Final = 0
"""The node of a mean: no device has it."""

Float32s = NDArray[np.float32]


class Driver:
    """One run of a strategy, from where its newest checkpoint has it."""

    def __init__(self, exchange: Exchange, plan: Plan, strategy: Strategy, initial: bytes) -> None:
        self._fleet = Fleet(exchange, plan)
        self._exchange = exchange
        self._plan = plan
        self._strategy = strategy
        self._terms = terms_of(plan.admission, ARRAYS)
        self._place = Place()
        self._parent = self._record = initial
        self._tail = Tail(plan.run.rounds, 0.0 if strategy.chooses else plan.strategy.average_last)
        self._rotates = plan.round.rotation and not strategy.chooses
        self._asked: frozenset[int] = frozenset()  # in this turn: see ``selection``
        stored = exchange.checkpoint()
        if stored is not None and stored.state:
            state = checkpoint.read(stored.state)
            self._place = Place(**state["place"])
            self._record = exchange.arrays(stored.arrays_sha256)
            strategy.restore(state["strategy"])
            self._tail.restore(state.get("tail", self._tail.state()))
            self._asked = frozenset(state.get("asked", np.array([])).tolist())
        if self._place.attempts >= MOST_ATTEMPTS:  # it has failed, and somebody has resumed it
            self._place = Place(**{**asdict(self._place), "attempts": 0})

    def drive(self) -> None:
        """Goes on until the run is done, and says so.

        Raises:
            Stopped: somebody has stopped the run.
            TooFewDevices, NoAggregate: a round was tried again and again in vain.
        """
        while True:
            match next_work(self._place, self._plan.run.rounds, self._plan.evaluation):
                case Work.EVALUATE:
                    arrays = to_evaluate(self._plan, self._place, self._parent, self._made())
                    record, outcomes = self._fleet.evaluate(self._place, arrays)
                    self._close(evaluated(self._place), record, outcomes)
                case Work.TRAIN:
                    self._train()
                case Work.NOTHING:
                    self._exchange.finish(self._exchange.put_arrays(self._made()))
                    return

    def _made(self) -> bytes:
        """What the run has come to: the newest global model, and in the end the mean of the last."""
        mean = self._tail.mean() if self._place.round >= self._plan.run.rounds else {}
        return written_arrays(mean) if mean else self._record

    def _train(self) -> None:
        step, began_ms = self._place.step + 1, self._exchange.now_ms()
        before = self._strategy.state()
        try:
            group = self._ask(step)
        except TooFewDevices as error:
            story = Story(0, str(error), {}, began_ms, self._exchange.now_ms())
            record = record_of(step, self._place.round + 1, Phase.TRAIN, (), (), story)
            self._try_again(record, (), error)
            return
        found = self._collect(step, group.wanted)
        metrics: Mapping[str, float] = {}
        problem: TooFewDevices | NoAggregate | None = None
        arrays = self._record
        try:
            arrays, metrics = self._aggregated(found, step)
        except (TooFewDevices, NoAggregate) as error:
            problem = error
            self._strategy.restore(before)
        why = f"{found.why}; {problem}" if problem else found.why
        story = Story(group.eligible, why, metrics, began_ms, self._exchange.now_ms())
        record = record_of(
            step, self._place.round + 1, Phase.TRAIN, found.tasks, found.outcomes, story
        )
        if problem:
            self._try_again(record, found.outcomes, problem)
        else:
            self._record = arrays
            self._tail.take(self._place.round + 1, arrays_of(arrays))
            self._close(trained(self._place), record, found.outcomes)

    def _try_again(
        self, record: PhaseRecord, outcomes: Sequence[Outcome], error: TooFewDevices | NoAggregate
    ) -> None:
        self._close(failed(self._place), record, outcomes)
        if self._place.attempts >= MOST_ATTEMPTS:
            raise type(error)(f"round {record.round}, {MOST_ATTEMPTS} times: {error}")

    def _ask(self, step: int) -> Group:
        """Posts the round's tasks; how they were asked before if they are there already.

        Raises:
            TooFewDevices: for as long as a round may take.
        """
        posted = self._exchange.tasks(step)
        if posted:
            self._configured(step, tuple(task.node for task in posted), resumed=True)
            self._had_their_turn(posted)
            return group_of(posted[0])
        plan, minimum = self._plan, self._plan.round.minimum_cohort
        fewest = max(minimum, self._strategy.fewest)
        nodes = self._fleet.ready(fewest)
        if len(nodes) < fewest:
            raise TooFewDevices(f"{len(nodes)} were ready, {fewest} are needed")
        if self._strategy.chooses:
            requests = self._configured(step, nodes, resumed=False)
            sizes = size(len(requests), 1.0, 1.0, plan.round.quorum, minimum)
        else:
            share, over = plan.strategy.fraction, plan.round.over_selection
            sizes = size(len(nodes), share, over, plan.round.quorum, minimum)
            draw = selection.generator(plan.run.seed, step)
            chosen = selection.rotated(nodes, sizes.asked, self._asked, draw)
            requests = self._configured(step, chosen, resumed=False)
        group = Group(len(nodes), sizes.wanted)
        self._had_their_turn(self._fleet.ask(step, requests, group))
        return group

    def _had_their_turn(self, tasks: Sequence[Task]) -> None:
        if self._rotates:
            self._asked = selection.turn_after(self._asked, (task.node for task in tasks))

    def _configured(self, step: int, nodes: tuple[int, ...], *, resumed: bool) -> list[Request]:
        config = training_config(self._plan, self._place.round + 1)
        seed = self._plan.run.seed + step
        try:
            return list(
                self._strategy.configure(self._place.round + 1, self._record, config, nodes, seed)
            )
        except TooFewDevices:
            if resumed:  # it had more to choose from when its tasks were posted, and has chosen
                return []
            raise

    def _collect(self, step: int, wanted: int) -> Collected:
        base = arrays_of(self._record)
        ratio, alike = self._terms.norm_ratio, not self._strategy.sums
        return collect(
            self._exchange,
            step,
            wanted,
            lambda data, task: judged_update(data, task, self._terms, base),
            lambda together: outliers(together, ratio) | (odd_ones(together) if alike else {}),
            Patience(self._plan.round.patience, self._plan.round.minimum_cohort),
        )

    def _aggregated(self, found: Collected, step: int) -> tuple[bytes, Mapping[str, float]]:
        """The next parameters, and the round's metrics."""
        minimum = self._plan.round.minimum_cohort
        if len(found.counted) < minimum:
            raise TooFewDevices(f"{len(found.counted)} replied well, {minimum} are needed")
        updates = self._updates(found)
        if self._strategy.sums:
            mean = WeightedMean()
            for one in updates:
                mean.add(one.arrays, one.weight)
            updates = iter([Update(NOBODY, mean.weight, mean.result(), {})])
        seed = self._plan.run.seed + step
        made = self._strategy.aggregate(self._place.round + 1, updates, seed)
        replies = [
            (found.admitted(one).weight, found.admitted(one).metrics) for one in found.counted
        ]
        return written_arrays(self._pinned(made.arrays)), {**mean_metrics(replies), **made.metrics}

    def _updates(self, found: Collected) -> Iterator[Update]:
        """The replies that count, decoded one at a time, by node id."""
        base = arrays_of(self._record)
        for task in found.counted:
            admitted = found.admitted(task)
            arrays = update_of(self._exchange.reply(task.id), self._terms, base)
            yield Update(task.node, admitted.weight, arrays, admitted.metrics)

    def _pinned(self, made: Mapping[str, NDArray[np.generic]]) -> dict[str, Float32s]:
        """The parameters as float32, of the names and shapes that they had.

        Raises:
            NoAggregate: they are others, or not finite.
        """
        pinned = {}
        for name, before in arrays_of(self._record).items():
            if name not in made or made[name].shape != before.shape:
                raise NoAggregate(f"the strategy has lost {name!r}, or made it another shape")
            with np.errstate(over="ignore"):
                pinned[name] = np.asarray(made[name], np.float32)
            if not np.isfinite(pinned[name]).all():
                raise NoAggregate(f"the strategy made {name!r} infinite or NaN")
        return pinned

    def _close(self, place: Place, record: PhaseRecord, outcomes: Sequence[Outcome]) -> None:
        """Durable, all at once: what was decided, and all that is needed to go on."""
        self._place = place
        state = checkpoint.written(
            {
                "place": asdict(place),
                "strategy": self._strategy.state(),
                "tail": self._tail.state(),
                "asked": np.array(sorted(self._asked), np.uint64),
            }
        )
        digest = self._exchange.put_arrays(self._record)
        kept = Checkpoint(place.step, place.round, digest, state)
        self._exchange.close(outcomes, record, kept)
