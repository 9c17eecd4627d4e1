"""A controller and agents as processes, and the run on their own channel."""

import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agent.serving.client import Client, RequestFailed
from simulations.demo import digits
from simulations.demo.lookout import Lookout
from simulations.demo.stage import SITES, Stage
from simulations.side_by_side.figures import Figures
from simulations.side_by_side.gauge import carried, mean, memory, watched
from simulations.side_by_side.task import DEVICES, MODEL, examples, run_file

SETTLING_SECONDS: Final = 5.0
ENDED: Final = {"finished", "failed", "stopped"}
APPROVER: Final = "ada"


@contextmanager
def fleet(folder: Path, data: digits.Digits) -> Iterator[Stage]:
    """A controller, and devices that run the version and have examples."""
    stage = Stage(folder, DEVICES)
    try:
        stage.found()
        stage.muster("key", "create", APPROVER)
        _publish(stage, data)
        for device in stage.devices:
            stage.enrol(device, SITES[0])
            device.daemon.start()
        lookout = Lookout(stage)
        lookout.wait("devices", lookout.online)
        words = ("rollout", "start", f"{MODEL}/1", "--to", f"site={SITES[0]}", "--at-once")
        rollout = str(stage.muster_json(*words)["id"])
        lookout.wait("end of the rollout", lambda: lookout.ended(rollout))
        for number, device in enumerate(stage.devices):
            client = Client(f"http://127.0.0.1:{device.rest_port}")
            rows = examples(data, number)
            lookout.wait("examples", lambda c=client, r=rows: _kept(c, r))  # type: ignore[misc]
            device.daemon.stop()  # it would else have compiled what it runs
            device.daemon.start()
        lookout.wait("devices", lookout.online)
        yield stage
    finally:
        stage.stop()


def measured(stage: Stage, rounds: int, encoding: str) -> Figures:
    """The run, with updates as the run file's default has them."""
    time.sleep(SETTLING_SECONDS)
    pids = [device.daemon.pid for device in stage.devices]
    idle = mean([memory(pid) for pid in pids])
    config = tomllib.loads((stage.home / "controller.toml").read_text())
    session = config["listening"]["session_port"]
    before = carried(session)
    began = time.monotonic()
    with watched(pids) as devices, watched([stage.controller.pid]) as centre:
        run = _run(stage, run_file(rounds, encoding))
    seconds = time.monotonic() - began
    after = carried(session)
    trained = [one for one in run["phases"] if one["phase"] == "train"]
    lasted = trained[-1]["ended_at"] - trained[0]["began_at"]
    return Figures(
        way=f"Muster, {encoding}",
        seconds=seconds,
        seconds_a_round=lasted / len(trained),
        idle=idle,
        at_work=devices.mean,
        centre=centre.mean,
        up=after[0] - before[0],
        down=after[1] - before[1],
    )


def _run(stage: Stage, text: str) -> dict[str, Any]:
    file = stage.folder / "run.toml"
    file.write_text(text)
    name = stage.muster_json("federated", "start", str(file))["run"]["id"]

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = stage.get(f"/federated/runs/{name}")
        return found if found["run"]["state"] in ENDED else None

    run = Lookout(stage).wait("end of the run", ended, 300)
    if run["run"]["state"] != "finished":
        raise RuntimeError(f"{name}: {run['run']}")
    return run


def _publish(stage: Stage, data: digits.Digits) -> None:
    keys = stage.folder / "keys"
    targets = stage.home / "offline" / "targets.pem"
    stage.muster(
        *("model", "create", MODEL, "--approver", str(keys / f"{APPROVER}.json")),
        *("--threshold", "1", "--targets-key", str(targets), "--yes"),
    )
    onnx, reference = stage.folder / "digits.onnx", stage.folder / "reference.npz"
    onnx.write_bytes(digits.train(data, 2).onnx)
    reference.write_bytes(digits.reference_file(data.holdout_images, data.holdout_labels))
    files = (str(onnx), "--reference", str(reference))
    stage.muster_json("model", "register", MODEL, *files, "--trainable", "all")
    key = str(keys / f"{APPROVER}.pem")
    stage.muster("model", "approve", f"{MODEL}/1", "--key", key, "--yes")


def _kept(client: Client, rows: dict[str, Any]) -> bool | None:
    """True once the device has them: it may not yet have started the version."""
    try:
        kept = client.add_example(MODEL, {"image": rows["image"]}, rows["y"].tolist())
    except RequestFailed:
        return None
    return kept > 0 or None
