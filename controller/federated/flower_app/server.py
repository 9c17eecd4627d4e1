"""The ``ServerApp``: the run's strategy, driven by Flower's own ``Strategy.start``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from agent.federated.evaluation import Evaluation, read_evaluation
from controller.federated.coordinator.fleet import training_config
from controller.federated.coordinator.flower_strategies import flower_strategy
from controller.federated.coordinator.tail import Tail
from controller.federated.evaluation_told import metrics_of
from controller.federated.flower_app import actions
from controller.federated.flower_app.errors import AppDamaged
from controller.federated.plan import Plan


def server_app(package: Path) -> ServerApp:
    """The app in ``package``, as ``flower_app.folder`` has made it."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config = context.run_config
        plan = actions.plan_in(package)
        version = actions.version_in(package, str(config.get("files", "")))
        rounds = int(str(config.get("rounds", plan.run.rounds)))
        nodes = int(str(config.get("nodes", plan.round.minimum_cohort)))
        tail = Tail(rounds, plan.strategy.average_last)
        result = strategy_of(plan, nodes, rounds, tail).start(
            grid=grid,
            initial_arrays=_record(version.parameters()),
            num_rounds=rounds,
            timeout=plan.round.deadline,
            train_config=ConfigRecord(dict(training_config(plan, 0))),
        )
        if not result.arrays:
            raise AppDamaged("no round has brought anything")
        trained = tail.mean() or _floats(result.arrays)
        actions.write_result(str(config.get("result", "trained.onnx")), version.moved(trained))

    return app


def strategy_of(plan: Plan, nodes: int, rounds: int, tail: Tail) -> Strategy:
    """The run file's strategy; it waits for so many nodes, and evaluates when the run file says.

    Its global models are taken into ``tail``, whose mean is evaluated in the end.
    """
    strategy = flower_strategy(
        plan,
        fraction_train=plan.strategy.fraction,
        fraction_evaluate=plan.evaluation.fraction,
        min_train_nodes=min(nodes, plan.round.minimum_cohort),
        min_evaluate_nodes=1,
        min_available_nodes=nodes,
        evaluate_metrics_aggr_fn=merged,
    )
    configure, told = strategy.configure_evaluate, plan.evaluation

    def when_due(
        server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        tail.take(server_round, _floats(arrays))
        due = told.every and server_round % told.every == 0
        last = server_round == rounds
        judged = _record(tail.mean()) if last and tail.mean() else arrays
        return configure(server_round, judged, config, grid) if due or (last and told.after) else []

    strategy.configure_evaluate = when_due  # type: ignore[method-assign]
    return strategy


def merged(replies: list[RecordDict], _: str) -> MetricRecord:
    """The counts of all replies together, and what they come to."""
    total = Evaluation()
    for one in replies:
        for record in one.metric_records.values():
            total = total.merge(read_evaluation(dict(record)))
    return MetricRecord(dict(metrics_of(total)))


def _floats(arrays: ArrayRecord) -> dict[str, Any]:
    return {name: np.asarray(one.numpy(), np.float32) for name, one in arrays.items()}


def _record(arrays: Any) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(one)) for name, one in arrays.items()})
