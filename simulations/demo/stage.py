"""A controller and some devices in one folder, as separate processes that talk over real TLS."""

import ssl
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from controller.cli.client import ApiClient
from controller.cli.profile import read_profile
from simulations.demo.broker import StageBroker
from simulations.demo.processes import SCRIPTS, Daemon, free_ports, run_command, run_json, wait_for

SITES: Final = ("berlin", "oslo")

STOPPING: Final = 12
"""So many agents are asked to end at a time."""

AGENT_CONFIG: Final = """\
[serving]
rest_port = {rest}
grpc_port = {grpc}
threads = 1

[installing]
probation_seconds = {probation}
probation_requests = 20
retry_seconds = 0.5
retry_cap_seconds = 2.0

[watching]
window_rows = {rows}
window_seconds = {seconds}
checkpoint_seconds = 1.0

[reporting]
interval_seconds = 1.0
resources_seconds = 5.0

[training]
collect = true

[connecting]
transports = [{transports}]
return_seconds = 1.0
backoff_seconds = 0.2
backoff_cap_seconds = 1.0
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast devices go.

    Attributes:
        rows, seconds: they judge their data after so many rows, at least so many seconds apart.
        probation_seconds: how long a new version must hold that nobody asks anything.
    """

    rows: int = 300
    seconds: float = 2.0
    probation_seconds: float = 5.0


class Device:
    """One device: its folder, its agent's process, its ports."""

    def __init__(
        self,
        name: str,
        home: Path,
        ports: tuple[int, int],
        pace: Pace,
        transports: Sequence[str],
    ) -> None:
        self.name = name
        self.home = home
        self.rest_port, self.grpc_port = ports
        home.mkdir(parents=True)
        config = AGENT_CONFIG.format(
            rest=ports[0],
            grpc=ports[1],
            rows=pace.rows,
            seconds=pace.seconds,
            probation=pace.probation_seconds,
            transports=", ".join(f'"{one}"' for one in transports),
        )
        (home / "agent.toml").write_text(config)
        self.daemon = self._daemon(self.command("run"))

    def command(self, *words: str) -> list[str]:
        """A command of ``muster-agent`` for this device."""
        return [str(SCRIPTS / "muster-agent"), "--home", str(self.home), *words]

    def take_over(self) -> None:
        """From its next start on it is somebody else's: see ``poisoner``."""
        self.daemon = self._daemon(
            [sys.executable, "-m", "simulations.demo.poisoner", str(self.home)]
        )

    def give_back(self) -> None:
        """From its next start on it is its owner's again."""
        self.daemon = self._daemon(self.command("run"))

    def _daemon(self, command: Sequence[str]) -> Daemon:
        return Daemon(self.name, command, self.home.with_suffix(".log"), {})

    def status(self) -> Any:
        """What ``muster-agent status`` says."""
        return run_json(self.command("status"), {})


class Stage:
    """Everything in ``folder``; nothing runs until it is started."""

    def __init__(
        self,
        folder: Path,
        devices: int,
        pace: Pace | None = None,
        transports: Sequence[str] = ("grpc",),
    ) -> None:
        """``transports`` are what devices talk over, best first; with "mqtt" there is a broker."""
        self.folder = folder
        self.home = folder / "controller"
        self.used_token = ""
        self._api: ApiClient | None = None
        ports = free_ports(6 + 2 * devices)
        self._ports = ports[:3]
        self.broker: StageBroker | None = None
        if "mqtt" in transports:
            self.broker = StageBroker(folder / "broker", (ports[3], ports[4], ports[5]))
        self.environment = {
            "MUSTER_PROFILE": str(folder / "profile.toml"),
            "MUSTER_KEYS": str(folder / "keys"),
        }
        self.controller = Daemon(
            "controller",
            [str(SCRIPTS / "muster"), "serve", "--home", str(self.home)],
            folder / "controller.log",
            {},
        )
        self.devices = [
            Device(
                f"cam-{number + 1}",
                folder / "devices" / f"cam-{number + 1}",
                (ports[6 + 2 * number], ports[7 + 2 * number]),
                pace or Pace(),
                transports,
            )
            for number in range(devices)
        ]

    def muster(self, *words: str) -> str:
        """What an operator's command prints.

        Raises:
            ProcessFailed: its status was not 0.
        """
        return run_command([str(SCRIPTS / "muster"), *words], self.environment)

    def muster_json(self, *words: str) -> Any:
        """What an operator's command prints with ``--output json``."""
        return run_json([str(SCRIPTS / "muster"), *words], self.environment)

    def get(self, path: str, **query: object) -> Any:
        """What the controller's API has at ``path``: what a command with ``--output json`` shows."""
        return self.api().get(path, **query)

    def api(self) -> ApiClient:
        """The administrator's connection, kept until ``stop``."""
        if self._api is None:
            self._api = ApiClient(read_profile(self.folder / "profile.toml"))
        return self._api

    def found(self) -> None:
        """Makes the controller and starts it; returns when it answers."""
        self.make_controller()
        self.start_controller()

    def make_controller(self) -> None:
        """Makes the controller's folder; its configuration may be changed before it is started."""
        api, session, enrolment = (str(port) for port in self._ports)
        self.muster(
            *("init", str(self.home), "--name", "localhost", "--name", "127.0.0.1"),
            *("--api-port", api, "--session-port", session, "--enrolment-port", enrolment),
        )

        config = self.home / "controller.toml"
        seldom = "interval_seconds = 30.0"
        config.write_text(config.read_text().replace(seldom, "interval_seconds = 1.0"))
        if self.broker is not None:
            self.muster(*self.broker.setup_words(self.home))
            self.broker.join(self.home / "controller.toml")
            self.broker.start()

    def start_controller(self) -> None:
        """Starts the controller; returns when it answers."""
        self.controller.start()
        wait_for("answer of the controller", self._answers, 60, [self.controller])

    def enrol(self, device: Device, site: str) -> None:
        """Makes a device of it, with a one-time token."""
        token = self.muster_json("token", "create", "--label", f"site={site}")["token"]
        run_command(device.command("enrol", token, "--name", device.name), {})
        self.used_token = token

    def take_over(self, device: Device) -> None:
        """Somebody has taken the device over, and starts it anew."""
        device.daemon.stop()
        device.take_over()
        device.daemon.start()

    def give_back(self, device: Device) -> None:
        """Its owner has it again."""
        device.daemon.stop()
        device.give_back()
        device.daemon.start()

    def daemons(self) -> Sequence[Daemon]:
        """Every process that should run."""
        broker = [self.broker.daemon] if self.broker else []
        return [*broker, self.controller, *(device.daemon for device in self.devices)]

    def stop(self) -> None:
        """Ends every process."""
        with ThreadPoolExecutor(max_workers=STOPPING) as pool:
            list(pool.map(lambda device: device.daemon.stop(), self.devices))
        self.close()  # the controller would wait for who is still connected
        self.controller.stop()
        if self.broker is not None:
            self.broker.daemon.stop()

    def close(self) -> None:
        """Ends the administrator's connection."""
        if self._api is not None:
            self._api.__exit__()
            self._api = None

    def how_to_go_on(self) -> str:
        """The commands that start everything again, where it was left."""
        lines = [
            f"everything is in {self.folder}; to go on:",
            f"  export PATH={SCRIPTS}:$PATH",
            *(f"  export {name}={value}" for name, value in self.environment.items()),
            *([f"  mosquitto -c {self.broker.folder / 'mosquitto.conf'} &"] if self.broker else []),
            f"  muster serve --home {self.home} &",
            *(f"  muster-agent --home {device.home} run &" for device in self.devices),
            "  muster device list",
        ]
        return "\n".join(lines)

    def _answers(self) -> bool | None:
        url = f"https://localhost:{self._ports[0]}/readyz"
        trusted = ssl.create_default_context(cafile=self.home / "server-ca.crt")
        try:
            answer = httpx.get(url, verify=trusted, trust_env=False)
        except httpx.HTTPError:
            return None
        return True if answer.is_success else None
