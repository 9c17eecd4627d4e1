"""The exported app comes to what our own coordinator comes to, whatever the strategy."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from controller.federated.coordinator import flower_private
from controller.federated.flower_app.client import client_app
from controller.federated.flower_app.server import server_app
from tests.agent.federated.learners import clouds
from tests.controller.federated.flower_app.exported import (
    LEARNER,
    Arrays,
    export,
    furthest,
    on_our_channel,
    own,
    run_file,
    trained,
)

STRATEGIES = {
    "FedAvg": "",
    "FedProx": "",
    "FedAvgM": "server_momentum = 0.5",
    "FedAdam": "eta = 0.01",
    "FedYogi": "eta = 0.01",
    "FedAdagrad": "eta = 0.01",
    "FedTrimmedAvg": "beta = 0.3",
    "FedMedian": "",
    "Krum": "num_malicious_nodes = 0",
    "MultiKrum": "num_malicious_nodes = 1\nnum_nodes_to_select = 2",
    "Bulyan": "num_malicious_nodes = 0",
}
CLIENTS = 4


class InProcess(Grid):
    """A grid of Flower's whose nodes are ClientApps in this process."""

    def __init__(self, app: ClientApp, configs: Mapping[int, dict[str, Any]]) -> None:
        self.app, self.configs = app, configs
        self.replies: list[Message] = []

    def get_node_ids(self) -> Iterable[int]:
        return list(self.configs)

    @property
    def run(self) -> Any:
        return SimpleNamespace(run_id=7)

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    def create_message(self, *_: Any, **__: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        assert timeout is not None, "who never answers would hold it up for ever"
        found = [self.answer(number, one) for number, one in enumerate(messages)]
        self.replies += found
        return found

    def answer(self, number: int, message: Message) -> Message:
        flower_private.name_message(message, f"m-{number}", 7)
        sent = flower_private.read(flower_private.written(message))
        node = message.metadata.dst_node_id
        context = Context(7, node, self.configs[node], RecordDict(), {})
        return flower_private.read(flower_private.written(self.app(sent, context)))


def run_app(folder: Path, text: str, configs: list[dict[str, Any]], **config: Any) -> InProcess:
    package = export(folder, text)
    flower_private.identify(7)
    grid = InProcess(client_app(package), {100 + at: one for at, one in enumerate(configs)})
    given = {"nodes": len(configs), "result": str(folder / "trained.onnx"), **config}
    server_app(package)(grid, Context(7, 1, {}, RecordDict(), given))
    return grid


def files(folder: Path) -> list[dict[str, Any]]:
    configs = []
    for client in range(CLIENTS):
        path = folder / f"{client}.npz"
        np.savez(path, x=own(client)["x"], y=own(client)["y"])
        configs.append({"examples": str(path)})
    return configs


@pytest.mark.parametrize("name", STRATEGIES)
def test_parameters_are_those_of_our_own_coordinator(tmp_path: Path, name: str) -> None:
    proximal = "proximal = 0.1" if name == "FedProx" else ""
    text = run_file(f'name = "{name}"\n{STRATEGIES[name]}', training=proximal)

    run_app(tmp_path, text, files(tmp_path))

    found = trained(tmp_path / "trained.onnx")
    ours = on_our_channel(text, [own(client) for client in range(CLIENTS)])
    assert furthest(found, LEARNER.parameters) > 1e-3, "nothing was learnt"
    assert furthest(found, ours) < 2e-6


def test_the_mean_of_the_last_models_is_that_of_our_own_coordinator(tmp_path: Path) -> None:
    mean = run_file('name = "FedAvgM"\nserver_momentum = 0.5\naverage_last = 0.7', rounds=4)
    alone = run_file('name = "FedAvgM"\nserver_momentum = 0.5\naverage_last = 0', rounds=4)
    own_ones = [own(client) for client in range(CLIENTS)]

    run_app(tmp_path, mean, files(tmp_path))

    found = trained(tmp_path / "trained.onnx")
    assert furthest(found, on_our_channel(mean, own_ones)) < 2e-6
    assert furthest(found, on_our_channel(alone, own_ones)) > 1e-3


def test_clients_of_a_simulation_share_one_file(tmp_path: Path) -> None:
    x, y = clouds(200, seed=3)
    np.savez(tmp_path / "all.npz", x=x, y=y)
    shared = [
        {"partition-id": at, "num-partitions": 2, "examples": str(tmp_path / "all.npz")}
        for at in range(2)
    ]

    run_app(tmp_path, run_file(), shared)

    parts: list[Arrays] = [{"x": x[at::2], "y": y[at::2]} for at in range(2)]
    ours = on_our_channel(run_file(), parts)
    assert furthest(trained(tmp_path / "trained.onnx"), ours) < 2e-6


def test_the_last_round_is_evaluated_on_what_is_held_out(tmp_path: Path) -> None:
    grid = run_app(tmp_path, run_file(after="true"), files(tmp_path))

    kinds = [one.metadata.message_type for one in grid.replies]
    assert kinds == ["train"] * 2 * CLIENTS + ["evaluate"] * CLIENTS
    counts = [one.content.metric_records["metrics"] for one in grid.replies[-CLIENTS:]]
    assert all(0 < int(str(one["examples"])) < 40 for one in counts)


def test_a_client_without_examples_says_so_and_the_round_goes_on(tmp_path: Path) -> None:
    configs = [*files(tmp_path), {"examples": str(tmp_path / "none.npz")}]

    grid = run_app(tmp_path, run_file(rounds=1), configs)

    errors = [str(one.error.reason) for one in grid.replies if one.has_error()]
    assert len(errors) == 1
    assert errors[0].startswith("examples-unfit: ")
    ours = on_our_channel(run_file(rounds=1), [own(client) for client in range(CLIENTS)])
    assert furthest(trained(tmp_path / "trained.onnx"), ours) < 2e-6
