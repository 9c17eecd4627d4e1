"""The same task without Muster: numpy on the devices, and Flower's own ``Strategy.start`` over them.

Nothing of the product is in it but the table of strategies: digits lie on devices as in a trial of the
same seed, and training begins with the same parameters; updates are float32, all who are asked reply,
Flower draws whom it asks, and the last global model is what comes of it.
"""

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from controller.federated.coordinator import flower_private
from controller.federated.coordinator.flower_strategies import flower_strategy
from controller.federated.coordinator.request import arrays_of
from controller.federated.plan import TrainingTable
from controller.federated.run_file import stored_plan
from simulations.study.digits import Images, Labels, Rows, digits, partition
from simulations.study.perceptron import version
from simulations.study.trial import Course, Trial, courses

Floats = NDArray[np.float32]
Parameters = dict[str, Floats]

RUN: Final = 1
FIRST_NODE: Final = 100
TIMEOUT: Final = 3600.0


def references(trials: Sequence[Trial], workers: int) -> Iterator[Course]:
    """What comes of each, in order; in so many processes beside this one, in this one if in none."""
    return courses(trials, workers, reference)


def reference(trial: Trial) -> Course:
    """What comes of the trial's run file there; of its fleet, only where the digits lie."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    flower_private.identify(RUN)
    plan, data, fleet = stored_plan(trial.file), digits(), trial.fleet
    parts = partition(fleet.partition, data.labels, fleet.devices, trial.seed)
    strategy = flower_strategy(
        plan,
        fraction_train=plan.strategy.fraction,
        fraction_evaluate=0.0,
        min_train_nodes=1,
        min_available_nodes=fleet.devices,
    )
    accuracies: list[float] = []

    def judged(_: int, arrays: ArrayRecord) -> None:
        found = _parameters(arrays)
        right = _forward(found, data.test_images)[1].argmax(axis=1) == data.test_labels
        accuracies.append(float(right.mean()))

    random.seed(trial.seed)
    strategy.start(
        grid=Bench(parts, plan.training, trial.seed),
        initial_arrays=_record(arrays_of(version(trial.seed, proximal=False).initial)),
        num_rounds=plan.run.rounds,
        timeout=TIMEOUT,
        evaluate_fn=judged,
    )
    return Course(tuple(accuracies), (), ())


class Bench(Grid):
    """A grid of Flower's whose nodes train at once, in this process."""

    def __init__(self, parts: Sequence[Rows], training: TrainingTable, seed: int) -> None:
        self._parts = parts
        self._training = training
        self._seed = seed

    def get_node_ids(self) -> Iterable[int]:
        """One for each part."""
        return range(FIRST_NODE, FIRST_NODE + len(self._parts))

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 - all reply at once
    ) -> Iterable[Message]:
        """All of them reply."""
        return [self._reply(one) for one in messages]

    def _reply(self, message: Message) -> Message:
        node, data = message.metadata.dst_node_id, digits()
        rows = self._parts[node - FIRST_NODE]
        config = message.content["config"]
        round_ = int(str(config["server-round"]))
        learner = Learner(data.images[rows], data.labels[rows], self._training)
        rng = np.random.default_rng([self._seed, node, round_])
        record = _record(learner.trained(_parameters(message.content["arrays"]), rng))
        metrics = MetricRecord({"num-examples": len(rows)})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    @property
    def run(self) -> Any:
        """Its id."""
        return SimpleNamespace(run_id=RUN)

    def set_run(self, run: Any) -> None:
        """There is one only."""

    def create_message(self, *_: Any, **__: Any) -> Message:
        """Strategies make theirs themselves."""
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Strategies wait for replies."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Strategies wait for replies."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Learner:
    """A device: its examples, and how it learns from them."""

    images: Images
    labels: Labels
    how: TrainingTable

    def trained(self, before: Parameters, rng: np.random.Generator) -> Parameters:
        """After all epochs of stochastic gradient descent."""
        after = {name: array.copy() for name, array in before.items()}
        rate, pull = self.how.learning_rate, self.how.proximal
        for _ in range(self.how.epochs):
            order = rng.permutation(len(self.labels))
            for start in range(0, len(order), self.how.batch_size):
                batch = order[start : start + self.how.batch_size]
                for name, gradient in self._gradients(after, batch).items():
                    towards = pull * (after[name] - before[name]) if pull else 0.0
                    after[name] -= np.float32(rate) * (gradient + towards)
        return after

    def _gradients(self, at: Parameters, batch: Rows) -> Parameters:
        """Of the mean cross-entropy of the batch."""
        images = self.images[batch]
        hidden, logits = _forward(at, images)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        chances[np.arange(len(batch)), self.labels[batch]] -= 1
        chances /= len(batch)
        back = (chances @ at["w2"].T) * (hidden > 0)
        return {
            "w1": images.T @ back,
            "b1": back.sum(axis=0),
            "w2": hidden.T @ chances,
            "b2": chances.sum(axis=0),
        }


def _forward(at: Parameters, images: Images) -> tuple[Floats, Floats]:
    """Hidden units and logits."""
    hidden = np.maximum(images @ at["w1"] + at["b1"], 0)
    return hidden, hidden @ at["w2"] + at["b2"]


def _parameters(record: Any) -> Parameters:
    return {name: np.asarray(one.numpy(), np.float32) for name, one in record.items()}


def _record(arrays: Parameters) -> ArrayRecord:
    return ArrayRecord({name: Array(one) for name, one in arrays.items()})
