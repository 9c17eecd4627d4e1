"""The exported app on Flower's own processes: a SuperLink, two SuperNodes and `flwr run`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.controller.federated.flower_app.exported import (
    export,
    furthest,
    on_our_channel,
    own,
    run_file,
    trained,
)

BIN = Path(sys.executable).parent
DEADLINE = 240.0
PAUSE = 0.2


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Deployment:
    """Flower's processes in a folder; nothing of theirs is anywhere else, and they call nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "HOME": str(folder / "home"),
            "FLWR_HOME": str(folder / "home" / ".flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: str, *words: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log.txt").open("ab")
        process = subprocess.Popen(
            [BIN / command, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        self.processes.append(process)
        return process

    def wait_for(self, url: str) -> None:
        def answers() -> bool:
            try:
                return httpx.get(url, timeout=5).is_success
            except httpx.HTTPError:
                return False

        self.wait(answers)

    def wait(self, found: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not found():
            ended = [one.args for one in self.processes if one.poll() not in {None, 0}]
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{ended}: {(self.folder / 'log.txt').read_text()[-4000:]}")
            time.sleep(PAUSE)

    def close(self) -> None:
        """Ends them, and whatever they have started."""
        own = [psutil.Process(one.pid) for one in self.processes if one.poll() is None]
        family = [*own, *(child for one in own for child in one.children(recursive=True))]
        for one in family:
            one.kill()
        psutil.wait_procs(family, timeout=20)
        for process in self.processes:
            process.wait()


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    yield made
    made.close()


def test_flowers_own_processes_come_to_what_our_coordinator_comes_to(
    tmp_path: Path, deployment: Deployment
) -> None:
    text = run_file(rounds=1)
    export(tmp_path / "learner-app", text)
    port, *nodes = free_ports(3)
    home = tmp_path / "home" / ".flwr"
    home.mkdir(parents=True)
    (home / "config.toml").write_text(
        f'[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    deployment.start(
        "flower-superlink", "--insecure", "--disable-runtime-dependency-installation",
        "--host", "127.0.0.1", "--port", str(port),
    )  # fmt: skip
    deployment.wait_for(f"http://127.0.0.1:{port}/health")

    for client, node in enumerate(nodes):
        path = tmp_path / f"{client}.npz"
        np.savez(path, x=own(client)["x"], y=own(client)["y"])
        deployment.start(
            "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}",
            "--port", str(node), "--node-config", f'examples="{path}"',
        )  # fmt: skip
    deployment.start("flwr", "run", str(tmp_path / "learner-app"), "here")
    deployment.wait((tmp_path / "trained.onnx").exists)

    ours = on_our_channel(text, [own(0), own(1)])
    assert furthest(trained(tmp_path / "trained.onnx"), ours) < 2e-6
