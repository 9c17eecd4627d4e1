"""The same run as an app of Flower's, on its own SuperLink and SuperNodes."""

import re
import time
from pathlib import Path
from typing import Final

import numpy as np

from simulations.demo import digits
from simulations.demo.processes import SCRIPTS, run_command
from simulations.demo.stage import Stage
from simulations.side_by_side.figures import Figures
from simulations.side_by_side.flower_processes import FlowerProcesses
from simulations.side_by_side.gauge import mean, memory, watched
from simulations.side_by_side.proxy import CountingProxy
from simulations.side_by_side.task import DEVICES, examples, run_file

SETTLING_SECONDS: Final = 15.0
COMMANDS: Final = ("flower-superlink", "flower-supernode", "flower-superexec")
_LASTED: Final = re.compile(r"Strategy execution finished in ([0-9.]+)s")


def exported(stage: Stage, rounds: int) -> Path:
    """The app's folder, by the operator's own command."""
    file, folder = stage.folder / "flower.toml", stage.folder / "digits-app"
    file.write_text(run_file(rounds))
    stage.muster("federated", "export", str(file), "--to", str(folder))
    return folder


def measured(folder: Path, app: Path, data: digits.Digits, rounds: int) -> Figures:
    """The run; what goes between SuperNodes and SuperLink is counted on its way."""
    folder.mkdir()
    files = []
    for number in range(DEVICES):
        files.append(folder / f"{number}.npz")
        np.savez(files[-1], **examples(data, number))
    for command in COMMANDS:  # what is measured would else compile what it runs
        run_command([str(SCRIPTS / command), "--help"], {})
    flower = FlowerProcesses(folder, files)
    proxies = [CountingProxy(flower.port) for _ in files]
    try:
        flower.start()
        flower.join([one.port for one in proxies])
        time.sleep(SETTLING_SECONDS)
        pids = [node.pid for node in flower.nodes]
        idle = mean([memory(pid) for pid in pids])
        before = [(one.up, one.down) for one in proxies]
        began = time.monotonic()
        with watched(pids) as devices, watched([flower.superlink.pid]) as centre:
            flower.run(app)
        seconds = time.monotonic() - began
    finally:
        flower.stop()
        for one in proxies:
            one.close()
    told = _LASTED.search(flower.superlink.last_words(10_000))
    return Figures(
        way="SuperLink and SuperNodes",
        seconds=seconds,
        seconds_a_round=float(told[1]) / rounds if told else seconds / rounds,
        idle=idle,
        at_work=devices.mean,
        centre=centre.mean,
        up=sum(one.up for one in proxies) - sum(up for up, _ in before),
        down=sum(one.down for one in proxies) - sum(down for _, down in before),
    )
