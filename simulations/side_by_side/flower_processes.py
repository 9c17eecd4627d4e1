"""Flower's own SuperLink and SuperNodes as processes; their files are in one folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx

from simulations.demo.processes import SCRIPTS, Daemon, free_ports, run_command, wait_for

CONNECTION: Final = "here"
START_SECONDS: Final = 240.0


class FlowerProcesses:
    """A SuperLink, and a SuperNode for each .npz file of examples. They call nobody outside.

    With ``simulated`` clients there are no SuperNodes: Flower's simulation has so many, on Ray.
    """

    def __init__(self, folder: Path, examples: Sequence[Path], simulated: int = 0) -> None:
        self.folder = folder
        self._simulated = simulated
        self._examples = examples
        self.port, *self._ports = free_ports(1 + len(examples))
        self._home = folder / "home" / ".flwr"
        self._environment = {
            # It starts programs of its own by their names.
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder / "home"),
            "FLWR_HOME": str(self._home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",  # of Flower's settings the quickest
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.superlink = self._daemon("superlink", *(
            "flower-superlink", "--insecure", "--disable-runtime-dependency-installation",
            "--host", "127.0.0.1", "--port", str(self.port),
            *(["--simulation"] if simulated else []),
        ))  # fmt: skip
        self.nodes: list[Daemon] = []

    def start(self) -> None:
        """Starts the SuperLink; returns when it answers."""
        self._home.mkdir(parents=True)
        (self._home / "config.toml").write_text(
            f'[superlink.{CONNECTION}]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        )
        self.superlink.start()
        wait_for("answer of the SuperLink", self._answers, START_SECONDS, [self.superlink])

    def join(self, addresses: Sequence[int] = ()) -> None:
        """Starts the SuperNodes; they reach the SuperLink at these ports, if there are any."""
        for number, path in enumerate(self._examples):
            reached = addresses[number] if addresses else self.port
            node = self._daemon(f"supernode-{number}", *(
                "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{reached}",
                "--port", str(self._ports[number]), "--node-config", f'examples="{path}"',
            ))  # fmt: skip
            node.start()
            self.nodes.append(node)

    def run(self, app: Path, config: str = "") -> Path:
        """Has the app run, which was exported; returns the trained model's file when it is there.

        ``config`` is what else stands in Flower's ``--run-config``.
        """
        result = self.folder / f"{app.name}.onnx"
        config = f'result="{result}" {config}'.strip()
        words = [str(SCRIPTS / "flwr"), "run", str(app), CONNECTION, "--run-config", config]
        if self._simulated:
            words += ["--federation-config", f"num-supernodes={self._simulated}"]
        run_command(words, self._environment, START_SECONDS)
        every = [self.superlink, *self.nodes]
        wait_for("trained model", lambda: result.exists() or None, START_SECONDS, every)
        return result

    def stop(self) -> None:
        """Ends all processes, with those that they have started."""
        for one in (*self.nodes, self.superlink):
            one.stop()

    def _daemon(self, name: str, command: str, *words: str) -> Daemon:
        log = self.folder / f"{name}.log"
        return Daemon(name, [str(SCRIPTS / command), *words], log, self._environment)

    def _answers(self) -> bool | None:
        try:
            url = f"http://127.0.0.1:{self.port}/health"
            return httpx.get(url, trust_env=False).is_success or None
        except httpx.HTTPError:
            return None
