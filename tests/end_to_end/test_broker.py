"""Over a broker, with real processes: whatever is killed, and in whatever order it comes back."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.store.sqlite_store import SqliteStore
from protos.documents import Directive
from protos.envelope import peek
from protos.mqtt import topics
from protos.mqtt.broker import Broker, Habits
from protos.mqtt.connection import Incoming, connected
from simulations.demo.processes import Daemon
from simulations.demo.stage import Device
from tests.end_to_end.conftest import MakeFleet
from tests.end_to_end.feeder import Feeder
from tests.end_to_end.fleet import DEADLINE, WINDOW_ROWS, Fleet, model_file

MODEL = "ripe"


@dataclass
class Course:
    """Two devices under load: one that knows the broker alone, and one that knows gRPC, too."""

    fleet: Fleet
    versions: list[int]
    feeders: dict[str, Feeder]

    @property
    def narrow(self) -> Device:
        """Only the broker gets through to it."""
        return self.fleet.stage.devices[0]

    @property
    def wide(self) -> Device:
        """Prefers the broker; gRPC is there, too."""
        return self.fleet.stage.devices[1]

    @property
    def broker(self) -> Daemon:
        """Mosquitto."""
        assert self.fleet.stage.broker is not None
        return self.fleet.stage.broker.daemon

    def start(self, name: str) -> None:
        """Starts what was killed; returns when it answers."""
        if name == "controller":
            self.fleet.stage.start_controller()
        elif name == "broker":
            self.broker.start()
        else:
            self.narrow.daemon.start()

    def kill(self, name: str) -> None:
        """``kill -9``."""
        daemons = {"controller": self.fleet.stage.controller, "broker": self.broker}
        daemons.get(name, self.narrow.daemon).kill()

    def via(self, device: Device) -> str:
        """Over what the device's link goes, as its agent says; empty while it is down."""
        return str(device.status()["link"]["via"])


@pytest.fixture(scope="module")
def course(make_fleet: MakeFleet) -> Course:
    fleet = make_fleet(2, transports=("mqtt", "grpc"))
    narrow = fleet.stage.devices[0].home / "agent.toml"
    text = narrow.read_text().replace('["mqtt", "grpc"]', '["mqtt"]')
    narrow.write_text(text.replace("[serving]", "[serving]\ngrpc = false"))
    fleet.join(*fleet.stage.devices)
    fleet.appoint(MODEL)
    versions = [fleet.publish(MODEL, model_file(scale)) for scale in (1.0, 1.25)]
    for device in fleet.stage.devices:
        fleet.roll_out(MODEL, versions[0], device)
    feeders = {
        device.name: fleet.feed(device, MODEL, pause_seconds=0.05) for device in fleet.stage.devices
    }
    return Course(fleet, versions, feeders)


@pytest.fixture
def fleet(course: Course) -> Fleet:
    """So that a failing test shows the logs."""
    return course.fleet


def every_row_is_stored_once(course: Course, device: Device) -> None:
    feeder = course.feeders[device.name]
    feeder.pause()
    assert (feeder.unanswered, feeder.first_failure) == (0, "")
    feeder.send(WINDOW_ROWS)  # so many close the window that they fall in
    course.fleet.all_stored(device, MODEL, feeder.answered)
    feeder.resume()


def test_what_dies_comes_back_in_any_order_and_nothing_is_lost_or_stored_twice(
    fleet: Fleet, course: Course
) -> None:
    for back in itertools.permutations(("controller", "broker", "agent")):
        feeder = course.feeders[course.narrow.name]
        feeder.pause()  # an agent that is killed forgets what it has not written yet
        fleet.all_counted(course.narrow, MODEL, feeder.answered)
        for name in ("agent", "controller", "broker"):
            course.kill(name)
        for name in back:
            course.start(name)
        fleet.wait("answers of the model", lambda: fleet.ready(course.narrow, MODEL))
        feeder.resume()
        fleet.online(course.narrow)

    every_row_is_stored_once(course, course.narrow)


@pytest.mark.parametrize("dead", ["controller", "broker"])
def test_windows_that_close_while_nobody_listens_arrive_once(
    fleet: Fleet, course: Course, dead: str
) -> None:
    stored = len(fleet.stored(course.narrow, MODEL))
    course.kill(dead)
    waiting = len(fleet.accounts(course.narrow, MODEL))
    fleet.wait(
        "windows that wait",
        lambda: len(fleet.accounts(course.narrow, MODEL)) > waiting + 1 or None,
    )
    course.start(dead)
    fleet.wait(
        "windows that arrive",
        lambda: len(fleet.stored(course.narrow, MODEL)) > stored + 1 or None,
    )

    every_row_is_stored_once(course, course.narrow)


def test_a_device_goes_over_grpc_while_the_broker_is_dead_and_back_again(
    fleet: Fleet, course: Course
) -> None:
    over = course.via
    fleet.wait("MQTT", lambda: over(course.wide) == "mqtt" or None)
    course.kill("broker")
    fleet.wait("gRPC", lambda: over(course.wide) == "grpc" or None)
    fleet.online(course.wide)
    fleet.roll_out(MODEL, course.versions[1], course.wide)
    course.start("broker")
    fleet.wait("MQTT again", lambda: over(course.wide) == "mqtt" or None)
    fleet.roll_out(MODEL, course.versions[0], course.wide)

    every_row_is_stored_once(course, course.wide)


def test_a_device_that_has_nothing_to_do_with_grpc_does_not_load_it(course: Course) -> None:
    def loaded(device: Device) -> bool:
        return "cygrpc" in Path(f"/proc/{device.daemon.pid}/maps").read_text()

    assert (loaded(course.narrow), loaded(course.wide)) == (False, True)
    assert course.narrow.status()["ports"] == {"rest": course.narrow.rest_port}


async def generation_at_broker(course: Course, device: Device, least: int) -> None:
    """Returns once the directive that stands at the broker for the device is so new."""
    with closing(SqliteStore(device.home, read_only=True)) as store:
        identity = store.identity.load()
    assert identity is not None
    seen = asyncio.Event()

    def look(incoming: Incoming) -> None:
        if peek(incoming.payload, Directive).generation >= least:
            seen.set()

    broker = Broker(
        identity.broker_address,
        identity.broker_ca_pem,
        identity.certificate_pem,
        (device.home / "device.key").read_bytes(),
    )
    async with (
        asyncio.timeout(DEADLINE),
        connected(broker, device.name, look, Habits()) as client,
    ):
        await client.subscribe([topics.desired(device.name)])
        await seen.wait()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def mirror(fleet: Fleet) -> Iterator[str]:
    """A web server with what `muster mirror sync` brings: its address."""
    folder = fleet.stage.folder / "mirror"
    fleet.stage.muster("mirror", "sync", str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def test_a_device_learns_its_directive_from_the_broker_while_the_controller_is_dead(
    fleet: Fleet, course: Course
) -> None:
    narrow, newer = course.narrow, course.versions[1]
    course.feeders[narrow.name].pause()
    narrow.daemon.stop()
    generation = fleet.stage.get(f"/devices/{narrow.name}")["generation"]
    rollout = fleet.start(MODEL, newer, narrow)
    asyncio.run(generation_at_broker(course, narrow, generation + 1))

    with mirror(fleet) as url:
        course.kill("controller")
        config = narrow.home / "agent.toml"
        config.write_text(f'{config.read_text()}\n[mirror]\nurl = "{url}"\nallow_plain = true\n')
        narrow.daemon.start()

        def runs_newer() -> bool | None:
            slots = narrow.status()["slots"]
            return True if [one["active"]["version"] for one in slots] == [newer] else None

        fleet.wait(f"{MODEL}/{newer}, without a controller", runs_newer)
    course.start("controller")
    assert fleet.ended(rollout)["state"] == "succeeded"
