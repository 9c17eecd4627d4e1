"""Devices in process that learn a softmax regression, honestly or not, and runs over them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.federated.evaluation import evaluated
from agent.federated.order import config_of
from agent.federated.reply import METRICS, FlowerError, error_reply, evaluate_reply
from agent.federated.update import as_floats, as_steps
from controller.federated.coordinator.request import arrays_of, written_arrays
from controller.federated.plan import Plan
from controller.federated.run import Run, RunState
from controller.federated.task import Encoding, Phase, Task
from protos.flower import message_pb2
from protos.train_step import Loss
from simulations.federated.memory_exchange import Ledger, MemoryDevice, ledger_of

FEATURES, CLASSES = 6, 3
Floats = NDArray[np.float32]


def initial() -> bytes:
    """Nothing learnt yet."""
    return written_arrays(
        {
            "weight": np.zeros((FEATURES, CLASSES), np.float32),
            "bias": np.zeros(CLASSES, np.float32),
        }
    )


@dataclass
class Learner:
    """A device's examples: the answer is the class whose centre is nearest."""

    seed: int
    rows: int = 40
    skew: float = 1.0
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        centres = np.random.default_rng(7).normal(size=(CLASSES, FEATURES)) * 1.5
        shares = draw.dirichlet([self.skew] * CLASSES)
        self.truth = draw.choice(CLASSES, size=self.rows, p=shares)
        noise = draw.normal(size=(self.rows, FEATURES)) * 0.5
        self.inputs = (centres[self.truth] + noise).astype(np.float32)

    def __call__(self, message: message_pb2.Message, task: Task) -> bytes:
        """The reply: what was learnt, or how good it is."""
        self.asked.append(task.id)
        record = next(item for item in message.content.items if item.HasField("array_record"))
        before = arrays_of(record.array_record.SerializeToString(deterministic=True))
        if task.phase is Phase.EVALUATE:
            return evaluate_reply(message, self.counts(before))
        after = self.trained(before, config_of(message))
        floats = task.encoding is Encoding.FLOAT32
        update = as_floats(before, after) if floats else as_steps(before, after, {})
        return reply(message, update.record, {"num-examples": self.rows, "train_loss": 0.5})

    def trained(self, before: dict[str, Floats], config: Any) -> dict[str, Floats]:
        """A few steps of gradient descent."""
        weight, bias = before["weight"].copy(), before["bias"].copy()
        for _ in range(int(config.get("local-epochs", 1))):
            error = softmax(self.inputs @ weight + bias)
            error[np.arange(self.rows), self.truth] -= 1
            rate = float(config.get("lr", 0.1)) / self.rows
            pull = float(config.get("proximal-mu", 0.0)) * float(config.get("lr", 0.1))
            weight = weight - rate * self.inputs.T @ error - pull * (weight - before["weight"])
            bias = bias - rate * error.sum(0) - pull * (bias - before["bias"])
        return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}

    def counts(self, arrays: dict[str, Floats]) -> Any:
        """Of its examples."""
        logits = self.inputs @ arrays["weight"] + arrays["bias"]
        losses = -np.log(softmax(logits)[np.arange(self.rows), self.truth])
        return evaluated(
            Loss.SOFTMAX_CROSS_ENTROPY, float(losses.mean()), logits, self.truth.astype(np.int64)
        )


def softmax(logits: Any) -> Any:
    """Rows of probabilities."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def reply(
    message: message_pb2.Message,
    update: message_pb2.ArrayRecord,
    metrics: dict[str, float],
    key: str = "arrays",
) -> bytes:
    """A serialised reply to a training task."""
    answer = message_pb2.Message()
    answer.metadata.reply_to_message_id = message.metadata.message_id
    answer.metadata.run_id = message.metadata.run_id
    answer.metadata.message_type = message.metadata.message_type
    answer.content.items.add(key=key).array_record.CopyFrom(update)
    record = answer.content.items.add(key=METRICS).metric_record
    for name, value in metrics.items():
        item = record.items.add(key=name)
        if isinstance(value, int):
            item.value.sint64 = value
        else:
            item.value.double = value
    return answer.SerializeToString()


def declining(message: message_pb2.Message, task: Task) -> bytes:
    """A device that does not want to."""
    return error_reply(message, FlowerError.NODE_UNAVAILABLE, "on-battery", "not while it runs dry")


def silent(message: message_pb2.Message, task: Task) -> None:
    """A device that never answers."""


def devices(count: int, *, skew: float = 1.0) -> list[MemoryDevice]:
    """Honest ones, each with examples of its own and a pace of its own."""
    return [
        MemoryDevice(f"cam-{number}", Learner(number, 30 + 5 * number, skew), 50 + 17 * number)
        for number in range(count)
    ]


def run(**changes: Any) -> Run:
    """A run that is at work."""
    given: dict[str, Any] = {
        "id": "digits-r1",
        "number": 77,
        "model": "digits",
        "version": 3,
        "manifest_sha256": "0" * 64,
        "file": "",
        "state": RunState.RUNNING,
        "rounds": 3,
        "created_ms": 0,
        "created_by": "ada",
    }
    return Run(**given | changes)


def plan(**tables: Any) -> Plan:
    """A plan with short rounds; tables as in a run file."""
    given: dict[str, Any] = {
        "run": {"model": "digits/3", "rounds": 3},
        "round": {"deadline": "10s"},
        "training": {"learning_rate": 0.5, "epochs": 2},
        "update": {"encoding": "float32"},
        "evaluation": {"before": False, "after": False},
    }
    for name, table in tables.items():
        given[name] = {**given.get(name, {}), **table}
    return Plan.model_validate(given)


def ledger(several: Sequence[MemoryDevice], **changes: Any) -> Ledger:
    """Of a run with these devices."""
    return ledger_of(run(**changes), several)
