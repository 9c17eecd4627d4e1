"""The exported app on Flower's simulation runtime: `make simulation`, for it needs Ray and its time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simulations.side_by_side.flower_processes import FlowerProcesses
from tests.agent.federated.learners import clouds
from tests.controller.federated.flower_app.exported import (
    Arrays,
    export,
    furthest,
    on_our_channel,
    run_file,
    trained,
)

CLIENTS = 4


@pytest.fixture
def flower(tmp_path: Path) -> Iterator[FlowerProcesses]:
    made = FlowerProcesses(tmp_path, [], simulated=CLIENTS)
    yield made
    made.stop()


def test_clients_of_a_simulation_come_to_what_devices_come_to(
    tmp_path: Path, flower: FlowerProcesses
) -> None:
    x, y = clouds(240, seed=3)
    np.savez(tmp_path / "all.npz", x=x, y=y)
    text = run_file(rounds=2)
    export(tmp_path / "learner-app", text)

    flower.start()
    config = f'nodes={CLIENTS} examples="{tmp_path / "all.npz"}"'
    result = flower.run(tmp_path / "learner-app", config)

    parts: list[Arrays] = [{"x": x[at::CLIENTS], "y": y[at::CLIENTS]} for at in range(CLIENTS)]
    assert furthest(trained(result), on_our_channel(text, parts)) < 2e-6
