"""Flower apps as users write them: nothing in here knows of Muster."""

import random
from collections.abc import Iterable
from itertools import count
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam, FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """As in Flower's quickstart."""
    rounds = int(context.run_config["num-server-rounds"])
    arrays = ArrayRecord(
        {
            "weight": Array(np.zeros((6, 3), np.float32)),
            "bias": Array(np.zeros(3, np.float32)),
        }
    )
    strategy = FedAdam(fraction_train=0.7, eta=0.05, min_train_nodes=2, min_available_nodes=3)
    strategy.start(
        grid=grid,
        initial_arrays=arrays,
        num_rounds=rounds,
        timeout=20,
        train_config=ConfigRecord({"lr": 0.5}),
    )


by_hand = ServerApp()


@by_hand.main()
def by_hand_main(grid: Grid, context: Context) -> None:
    """Two rounds by hand, with draws of its own; the result is left in the context's state."""
    arrays = context.state.array_records["arrays"]
    for round_ in (1, 2):
        nodes = sorted(grid.get_node_ids())
        chosen = random.sample(nodes, len(nodes) - 1)
        rate = 0.3 + 0.1 * float(np.random.rand())
        content = RecordDict(
            {"arrays": arrays, "config": ConfigRecord({"server-round": round_, "lr": rate})}
        )
        ids = list(grid.push_messages([Message(content, node, "train") for node in chosen]))
        replies = [one for one in grid.pull_messages(ids) if one.has_content()]
        received = [one.content.array_records["arrays"] for one in replies]
        arrays = ArrayRecord(
            {
                name: Array(np.mean([one[name].numpy() for one in received], axis=0))
                for name in received[0]
            }
        )
    context.state["arrays"] = arrays


numbers = count()
moody = ServerApp()


@moody.main()
def moody_main(grid: Grid, context: Context) -> None:
    """Asks something else whenever it is started."""
    content = RecordDict(
        {
            "arrays": context.state.array_records["arrays"],
            "config": ConfigRecord({"server-round": 1, "mood": next(numbers)}),
        }
    )
    for _ in range(2):
        nodes = list(grid.get_node_ids())
        list(grid.send_and_receive([Message(content, node, "train") for node in nodes]))
    context.state["arrays"] = ArrayRecord(dict(context.state.array_records["arrays"]))


waiting = ServerApp()


@waiting.main()
def waiting_main(grid: Grid, context: Context) -> None:
    """Waits for more nodes than there will ever be."""
    while len(list(grid.get_node_ids())) < 99:
        pass


idle = ServerApp()


@idle.main()
def idle_main(grid: Grid, context: Context) -> None:
    """Leaves nothing behind."""


broken = ServerApp()


@broken.main()
def broken_main(grid: Grid, context: Context) -> None:
    """Raises."""
    raise KeyError("no such thing")


class Damped(FedAvg):
    """A strategy of a user's own, with a state of its own."""

    def __init__(self) -> None:
        super().__init__(fraction_train=0.8, min_train_nodes=2, min_available_nodes=2)
        self.seen = 0
        self.last: dict[str, Any] = {}

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Half of the way, and a little that grows with each round."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is None:
            return arrays, metrics
        self.seen += 1
        made = {}
        for name, array in arrays.items():
            last = self.last.get(name, np.zeros_like(array.numpy()))
            made[name] = last + (array.numpy() - last) * (0.5 + 0.1 * self.seen)
        self.last = made
        return (
            ArrayRecord({name: Array(array) for name, array in made.items()}),
            MetricRecord({"seen": self.seen}),
        )


damped = Damped()
nothing = 3
