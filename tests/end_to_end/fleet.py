"""A controller and agents as processes, and small models for them."""

import json
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import numpy as np
import pytest

from agent.install.machine import State
from agent.install.record import Install
from agent.store.sqlite_store import SqliteStore
from controller.cli.signing import sign_delegation, sign_pending
from controller.registry.version import Change
from controller.rollout.policy import AT_ONCE
from controller.store.key_files import KeyFiles
from protos.v1 import telemetry_pb2
from simulations.demo.lookout import Lookout
from simulations.demo.processes import ProcessFailed, wait_for
from simulations.demo.stage import Device, Pace, Stage
from tests.controller.registry.building import classifier, npz
from tests.end_to_end.feeder import TRUTH, Feeder, X

DEADLINE: Final = 90.0
WINDOW_ROWS: Final = 50
BALLAST_BYTES: Final = 4 * 1024 * 1024
QUICK: Final = Pace(rows=WINDOW_ROWS, seconds=0.5, probation_seconds=1.0)
COURSE: Final = tuple(state for state in State if state not in {State.IDLE, State.FAILED})
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For who asks often over plain HTTP: httpx would read all authorities each time."""
Found = TypeVar("Found")


def model_file(scale: float) -> bytes:
    """A classifier that is another file for every scale, large enough that fetching takes a while."""
    model = classifier(scale)
    ballast = np.random.default_rng(int(1000 * scale)).bytes(BALLAST_BYTES)
    model.metadata_props.add(key="ballast", value=ballast.hex())
    return bytes(model.SerializeToString())


def soon(probe: Callable[[], Found | None], pause_seconds: float = 0.002) -> Found:
    """What the probe finds, a moment after it is there."""
    deadline, pause = time.monotonic() + DEADLINE, threading.Event()
    while (found := probe()) is None:
        assert time.monotonic() < deadline, "the moment never came"
        pause.wait(pause_seconds)
    return found


class Fleet:
    """A stage with one approver and small models."""

    def __init__(
        self,
        folder: Path,
        devices: int,
        pace: Pace | None = None,
        *,
        lifetime_days: float = 30.0,
        transports: Sequence[str] = ("grpc",),
    ) -> None:
        self.stage = Stage(folder, devices, pace or QUICK, transports)
        self.lookout = Lookout(self.stage)
        self.reference = folder / "reference.npz"
        self._lifetime_days = lifetime_days
        self._feeders: list[Feeder] = []

    def open(self) -> None:
        """Starts the controller; enrols no device."""
        self.stage.make_controller()
        configuration = self.stage.home / "controller.toml"
        text = configuration.read_text()
        own = f"device_certificate_days = {self._lifetime_days}"
        assert "device_certificate_days = 30.0" in text
        configuration.write_text(text.replace("device_certificate_days = 30.0", own))
        self.stage.start_controller()
        self.reference.write_bytes(npz(x=X, y=TRUTH))
        KeyFiles(self.keys).create("ann")

    def close(self) -> None:
        """Ends everything, gently or not."""
        for feeder in self._feeders:
            feeder.stop()
        for daemon in self.stage.daemons():
            daemon.kill()
        self.stage.close()

    @property
    def keys(self) -> Path:
        """Where the approver's key is."""
        return self.stage.folder / "keys"

    @property
    def key(self) -> Path:
        """The approver's private key."""
        return self.keys / "ann.pem"

    # --- Devices ----------------------------------------------------------------------------------

    def join(self, *devices: Device, site: str = "berlin") -> None:
        """Makes devices of these and starts their agents."""
        for device in devices:
            self.stage.enrol(device, site)
            device.daemon.start()
        self.online(*devices)

    def online(self, *devices: Device) -> None:
        """Returns when the controller says that these are."""
        names = {device.name for device in devices}
        self.wait(f"{sorted(names)} online", lambda: names <= self.present() or None)

    def present(self) -> set[str]:
        """The devices that are online."""
        found = self.stage.get("/devices")
        return {one["id"] for one in found if one["presence"] == "online"}

    def wait(self, what: str, probe: Callable[[], Any], seconds: float = DEADLINE) -> Any:
        """What the probe finds, soon after it is there."""
        daemons = [one for one in self.stage.daemons() if one.pid]
        return wait_for(what, probe, seconds, [one for one in daemons if one.running()], 0.1)

    # --- Models -----------------------------------------------------------------------------------

    def appoint(self, model: str) -> None:
        """Says that the approver alone approves the model's versions."""
        targets = [self.stage.home / "offline" / "targets.pem"]
        approvers = [self.keys / "ann.json"]
        sign_delegation(self.stage.api(), model, approvers, 1, targets, ask=False)

    def register(self, model: str, onnx: bytes, **options: object) -> int:
        """The number of the new version."""
        files = {
            part: (path.name, path.open("rb"))
            for part, path in (
                ("model", self.save(f"{model}.onnx", onnx)),
                ("reference", self.reference),
            )
        }
        try:
            place = f"/models/{model}/versions"
            made = self.stage.api().upload(place, files, {"options": json.dumps(options)})
        finally:
            for _, file in files.values():
                file.close()
        assert made["version"]["state"] == "validated", made
        return int(made["version"]["version"])

    def save(self, name: str, data: bytes) -> Path:
        """A file of that name with the data."""
        path = self.stage.folder / name
        path.write_bytes(data)
        return path

    def approve(self, model: str, version: int) -> None:
        """Signs what waits."""
        named = f"{model}/{version}"
        answer = sign_pending(self.stage.api(), named, Change.ADD, self.key, ask=False)
        assert answer["published"], answer

    def publish(self, model: str, onnx: bytes, **options: object) -> int:
        """The number of a version that may be rolled out."""
        version = self.register(model, onnx, **options)
        self.approve(model, version)
        return version

    def start(self, model: str, version: int, device: Device) -> str:
        """Starts a rollout to one device; returns its id."""
        policy = AT_ONCE.model_dump(mode="json")
        wish = {
            "version": f"{model}/{version}", "selector": f"id={device.name}", "policy": policy,
        }  # fmt: skip
        return str(self.stage.api().post("/rollouts", wish)["id"])

    def ended(self, rollout: str) -> dict[str, Any]:
        """The rollout, when it has ended."""
        found: dict[str, Any] = self.wait(f"end of {rollout}", lambda: self.lookout.ended(rollout))
        return found

    def proven(self, model: str, version: int, device: Device) -> dict[str, Any]:
        """What the device's signed report says of the version, once it says that it runs proven."""

        def found() -> dict[str, Any] | None:
            return self.lookout.running(model, version).get(device.name)

        slot: dict[str, Any] = self.wait(f"{model}/{version} on {device.name}", found)
        files = self.stage.get(f"/models/{model}/versions/{version}")["manifest"]["files"]
        assert slot["model_sha256"] == files["model"]["sha256"]
        return slot

    def roll_out(self, model: str, version: int, device: Device) -> None:
        """Brings the version to the device, and back comes its proof."""
        ended = self.ended(self.start(model, version, device))
        assert ended["state"] == "succeeded", ended
        self.proven(model, version, device)

    def ready(self, device: Device, model: str) -> bool | None:
        """True once the device's agent answers for the model."""
        url = f"http://127.0.0.1:{device.rest_port}/v2/models/{model}/ready"
        try:
            return httpx.get(url, verify=NO_TLS, trust_env=False).is_success or None
        except httpx.HTTPError:
            return None

    # --- What a device's disk says ----------------------------------------------------------------

    def install(self, device: Device, model: str) -> Install | None:
        """What the device is trying, or last tried."""
        with closing(SqliteStore(device.home, read_only=True)) as store:
            found = store.installs.installs()
        return next((one for one in found if one.model == model), None)

    def failed(self, device: Device, model: str, version: int) -> Install | None:
        """The install, once it has failed."""
        one = self.install(device, model)
        over = one is not None and (one.version, one.state) == (version, State.FAILED)
        return one if over else None

    def resumed(self, device: Device, model: str, count: int) -> Install | None:
        """The install, once the agent has begun so often in the middle of it."""
        one = self.install(device, model)
        return one if one is not None and one.resumptions >= count else None

    def reaches(self, device: Device, model: str, version: int, state: State) -> State:
        """The state of the install, the first time that it is seen there or further on."""
        wanted = COURSE.index(state)
        with closing(SqliteStore(device.home, read_only=True)) as store:

            def found() -> State | None:
                for one in store.installs.installs():
                    trying = (one.model, one.version) == (model, version) and one.state in COURSE
                    if trying and COURSE.index(one.state) >= wanted:
                        return one.state
                return None

            return soon(found)

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the controller's database, whether it runs or not."""
        path = (self.stage.home / "muster.db").absolute()
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(query, values).fetchall()

    # --- The account of rows ----------------------------------------------------------------------

    def feed(self, device: Device, model: str, **settings: float) -> "Feeder":
        """Sends the device requests from now on."""
        feeder = Feeder(device, model, **settings)
        self._feeders.append(feeder)
        feeder.start()
        return feeder

    def stored(self, device: Device, model: str) -> Mapping[str, int]:
        """Rows by window, as the controller has stored them."""
        query = "SELECT window_id, rows FROM windows WHERE device = ? AND model = ?"
        found = self.ask(query, device.name, model)
        assert len(dict(found)) == len(found)
        return dict(found)

    def accounts(self, device: Device, model: str) -> Mapping[str, int]:
        """Rows by window: open on the device's disk, waiting there, or stored at the controller.

        A window moves in this order, so reading in this order misses none.
        """
        windows: dict[str, int] = {}
        with closing(SqliteStore(device.home, read_only=True)) as store:
            opened = [data for key, data in store.windows.checkpoints().items() if "#" not in key]
            waiting = store.spool.batch(100_000, 1 << 30)
        for one in map(telemetry_pb2.Window.FromString, opened):
            if one.model == model:
                windows[one.window_id] = one.rows
        for record in waiting:
            told = telemetry_pb2.Record.FromString(record.payload)
            if told.WhichOneof("kind") == "window" and told.window.model == model:
                windows[told.window.window_id] = told.window.rows
        windows.update(self.stored(device, model))
        return windows

    def counted(self, device: Device, model: str) -> int:
        """Rows that are on some disk."""
        return sum(self.accounts(device, model).values())

    def all_counted(self, device: Device, model: str, rows: int) -> None:
        """Returns when just so many rows are on some disk; the requests must have ended."""

        def found() -> bool | None:
            counted = self.counted(device, model)
            assert counted <= rows, f"{counted} rows were counted, {rows} were sent"
            return True if counted == rows else None

        self.wait(f"{rows} counted rows on {device.name}", found)

    def all_stored(self, device: Device, model: str, rows: int) -> None:
        """Returns when just so many rows are in the controller's windows; the last must close."""

        def found() -> bool | None:
            stored = sum(self.stored(device, model).values())
            assert stored <= rows, f"{stored} rows were stored, {rows} were sent"
            return True if stored == rows else None

        self.wait(f"{rows} stored rows of {device.name}", found)

    def refused(self, *words: str) -> str:
        """What a command of the operator says that must be refused."""
        with pytest.raises(ProcessFailed) as caught:
            self.stage.muster(*words)
        return str(caught.value)

    def audit_holds(self) -> bool:
        """What `muster audit verify` says, asked of the API."""
        return bool(self.stage.get("/audit/verify")["holds"])
