"""The ``ClientApp``: a device's own local training, behind Flower's messages."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from agent.errors import AgentError
from agent.federated.parameters import Parameters
from agent.federated.reply import METRICS, FlowerError, evaluate_metrics, train_metrics
from agent.runtimes.train_step import OnnxTrainStep
from controller.errors import ControllerError
from controller.federated.flower_app import actions
from controller.federated.flower_app.learning import (
    Examples,
    examples_in,
    judged,
    learnt,
    of_known_classes,
    plan_asked,
)

FILES: Final = "files"
EXAMPLES: Final = "examples"
PART, PARTS = "partition-id", "num-partitions"
"""As Flower's simulation and its SuperNodes call them."""


def client_app(package: Path) -> ClientApp:
    """The app in ``package``, as ``flower_app.folder`` has made it."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _answered(message, lambda: _trained(package, message, context))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _answered(message, lambda: _evaluated(package, message, context))

    return app


def _answered(message: Message, content: Callable[[], RecordDict]) -> Message:
    """The reply; one that says why not, if there is nothing to be sent."""
    try:
        return Message(content(), reply_to=message)
    except (AgentError, ControllerError) as error:
        reason = f"{error.code}: {error.detail}"
        return Message(Error(FlowerError.APP_RAISED, reason), reply_to=message)


def _trained(package: Path, message: Message, context: Context) -> RecordDict:
    key, parameters = _parameters(message)
    step, examples = _ground(package, *_settings(context))
    config = {
        name: value
        for record in message.content.config_records.values()
        for name, value in record.items()
        if isinstance(value, bool | int | float | str)
    }
    plan = plan_asked(config, message.metadata.message_id)
    result = learnt(step, parameters, examples, plan, actions.generator(plan.seed))
    arrays = ArrayRecord({name: Array(np.asarray(one)) for name, one in result.parameters.items()})
    return RecordDict({key: arrays, METRICS: MetricRecord(dict(train_metrics(result)))})


def _evaluated(package: Path, message: Message, context: Context) -> RecordDict:
    _, parameters = _parameters(message)
    step, examples = _ground(package, *_settings(context))
    metrics = evaluate_metrics(judged(step, parameters, examples))
    return RecordDict({METRICS: MetricRecord(dict(metrics))})


def _parameters(message: Message) -> tuple[str, Parameters]:
    """The key and the arrays of the message's array record, as float32: some strategies widen."""
    key, record = next(iter(message.content.array_records.items()))
    return key, {name: np.asarray(one.numpy(), np.float32) for name, one in record.items()}


def _settings(context: Context) -> tuple[str, str, int, int]:
    """Where files and examples are, and which of how many parts of these are this client's."""
    said: Mapping[str, object] = {**context.run_config, **context.node_config}
    return (
        str(said.get(FILES, "")),
        str(said.get(EXAMPLES, "")),
        int(str(said.get(PART, 0))),
        int(str(said.get(PARTS, 1))),
    )


@cache
def _ground(
    package: Path, files: str, path: str, part: int, parts: int
) -> tuple[OnnxTrainStep, Examples]:
    """The train step and the examples; made once in a process."""
    version = actions.version_in(package, files)
    step = version.step
    found = examples_in(actions.arrays_at(path), version.layout, part, parts)
    return (
        OnnxTrainStep(version.train_step, step),
        of_known_classes(found, step.spec, step.classes),
    )
