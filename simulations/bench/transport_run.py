"""One fleet, connected, told and heard over one transport; and what its processes took for it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from controller.cli.client import ApiClient
from controller.rollout.policy import AT_ONCE
from simulations.bench.load_orders import (
    Answer,
    Connect,
    Connected,
    Flood,
    Hear,
    Order,
    Plan,
    Ready,
    Report,
    Reported,
    Told,
)
from simulations.bench.process import activities, busy_seconds, weight
from simulations.demo.processes import ProcessFailed

MODEL: Final = "digits"
AT_A_TIME: Final = 50
FIRST: Final = 20
"""So many devices connect before anything is measured: what is made once is made by then."""
FLOOD: Final = 1000
"""So many windows at most, as fast as they are taken."""
CALM_SHARE: Final = 0.1
CALM_SECONDS: Final = 30.0

AnyAnswer = TypeVar("AnyAnswer", Ready, Connected, Told, Reported)


@dataclass(frozen=True, slots=True)
class Pace:
    """How devices report: one window each in so many seconds, so many times; first they rest."""

    every: float = 60.0
    rounds: int = 1
    rest: float = 10.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds, on the clock and on a core by name of the process."""

    seconds: float
    busy: Mapping[str, float]

    def share(self, process: str) -> float:
        """Of one core; 0 of a process that was not there."""
        return self.busy.get(process, 0.0) / self.seconds


@dataclass(frozen=True, slots=True)
class Found:
    """What one run has shown. Memory is resident, in MiB, by name of the process.

    Attributes:
        before, after: memory, with ``FIRST`` devices connected and with all.
        told: seconds from the request for a rollout to each device's directive.
        windows: at the pace that was asked for.
        flood: as fast as they were taken.
    """

    connected: Connected
    connecting: Spent
    before: Mapping[str, float]
    after: Mapping[str, float]
    resting: Spent
    told: Sequence[float]
    telling: Spent
    windows: Reported
    reporting: Spent
    flood: Reported
    flooding: Spent


class Load:
    """The process that plays the devices."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.pid = process.pid

    def order(self, order: Order) -> None:
        """Has it begin; ``answer`` says what came of it."""
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()

    def answer(self, kind: type[AnyAnswer]) -> AnyAnswer:
        """Its next answer.

        Raises:
            ProcessFailed: it has ended.
        """
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        line = self._process.stdout.readline()
        if not line:
            raise ProcessFailed("the devices' process has ended")
        answer = msgspec.json.decode(line, type=Answer)
        assert isinstance(answer, kind)  # noqa: S101 - ours to keep in step
        return answer

    def do(self, order: Order, kind: type[AnyAnswer]) -> AnyAnswer:
        """Both."""
        self.order(order)
        return self.answer(kind)


@contextmanager
def playing(plan: Plan, folder: Path) -> Iterator[Load]:
    """A process with the plan's devices, none of which is connected."""
    path = folder / f"{plan.transport}-devices.json"
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(plan))
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "simulations.bench.load", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Load(process)
    finally:
        process.kill()
        process.communicate()


def run(load: Load, devices: int, pids: Mapping[str, int], api: ApiClient, pace: Pace) -> Found:
    """Measures everything, of processes by name: "controller" and, if there is one, "broker".

    Telling comes last: a controller tells those again who do not report what they were told.

    Raises:
        ProcessFailed: the devices' process has ended.
    """
    pids = {**pids, "devices": load.pid}
    load.do(Connect(FIRST, AT_A_TIME), Connected)
    calm(pids)
    before = _resident(pids)
    with spending(pids) as connecting:
        connected = load.do(Connect(devices - FIRST, AT_A_TIME), Connected)
    calm(pids)
    after = _resident(pids)
    with spending(pids) as resting:
        threading.Event().wait(pace.rest)
    with spending(pids) as reporting:
        windows = load.do(Report(pace.every, pace.rounds), Reported)
    with spending(pids) as flooding:
        flood = load.do(Flood(FLOOD, AT_A_TIME), Reported)
    calm(pids)
    with spending(pids) as telling:
        told = _rolled_out(load, api)
    return Found(
        connected,
        *(connecting[0], before, after, resting[0]),
        *(told, telling[0]),
        *(windows, reporting[0]),
        *(flood, flooding[0]),
    )


def _rolled_out(load: Load, api: ApiClient) -> list[float]:
    """Seconds from the request for a rollout to all until each device has its directive."""
    policy = AT_ONCE.model_dump(mode="json")
    wish = {"version": f"{MODEL}/1", "selector": "all", "policy": policy}
    load.do(Hear(), Ready)
    began = time.monotonic()
    api.post("/rollouts", wish)
    return [at - began for at in load.answer(Told).at]


def calm(pids: Mapping[str, int]) -> None:
    """Returns once the processes do little, or soon after: thousands of links never rest."""
    until = time.monotonic() + CALM_SECONDS
    while time.monotonic() < until:
        if sum(one.share for one in activities(list(pids.values()), 1.0)) < CALM_SHARE:
            return


@contextmanager
def spending(pids: Mapping[str, int]) -> Iterator[list[Spent]]:
    """What the processes take within; it is there afterwards."""
    spent: list[Spent] = []
    before = {name: busy_seconds(pid) for name, pid in pids.items()}
    began = time.monotonic()
    yield spent
    seconds = time.monotonic() - began
    busy = {name: busy_seconds(pid) - before[name] for name, pid in pids.items()}
    spent.append(Spent(seconds, busy))


def _resident(pids: Mapping[str, int]) -> Mapping[str, float]:
    return {name: weight(pid).resident for name, pid in pids.items()}
