"""The exported app on Flower's own processes: a SuperLink, two SuperNodes and `flwr run`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simulations.side_by_side.flower_processes import FlowerProcesses
from tests.controller.federated.flower_app.exported import (
    export,
    furthest,
    on_our_channel,
    own,
    run_file,
    trained,
)


@pytest.fixture
def flower(tmp_path: Path) -> Iterator[FlowerProcesses]:
    files = [tmp_path / f"{client}.npz" for client in range(2)]
    for client, path in enumerate(files):
        np.savez(path, x=own(client)["x"], y=own(client)["y"])
    made = FlowerProcesses(tmp_path, files)
    yield made
    made.stop()


def test_flowers_own_processes_come_to_what_our_coordinator_comes_to(
    tmp_path: Path, flower: FlowerProcesses
) -> None:
    text = run_file(rounds=1)
    export(tmp_path / "learner-app", text)

    flower.start()
    flower.join()
    result = flower.run(tmp_path / "learner-app")

    ours = on_our_channel(text, [own(0), own(1)])
    assert furthest(trained(result), ours) < 2e-6
