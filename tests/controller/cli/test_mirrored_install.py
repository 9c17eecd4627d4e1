"""A version that was registered and approved is installed from a mirror, with no controller there."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.errors import AgentError
from agent.facts import read_facts
from agent.inference.actions import Deployments
from agent.install.change import Change
from agent.install.loop import InstallLoop
from agent.install.ports import SelfTestResult
from agent.install.probation import ProbationPolicy
from agent.monitor.observer import Observer
from agent.monitor.reference import read_reference
from agent.runtimes.onnx import OnnxRuntime
from agent.store.device_store import Identity
from agent.transport.connection import Connection
from agent.transport.http_mirror import HttpMirror
from agent.transport.mirror import mirror_address
from agent.transport.route import Route
from agent.trust.actions import ImageTrust
from agent.trust.loop import DirectiveLoop
from agent.uplink import Uplink
from controller.access.operator import Role
from controller.registry.version import State
from controller.signing import directive as directives
from controller.store.key_files import KeyFiles
from protos.manifest import Manifest
from simulations.memory_blobs import MemoryBlobs
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_link import MemoryNetwork
from tests.contracts.centre import Centre
from tests.controller.cli.office import MODEL, Muster, Office

DEADLINE = 30.0
DEVICE = "press-7"


class Passing:
    """A self-test that says yes; the real one has tests of its own."""

    async def run(self, manifest: Manifest) -> SelfTestResult:
        assert manifest.model == MODEL
        return SelfTestResult(p99_seconds=0.0, peak_memory_bytes=0, max_difference=0.0)


class Quiet(SimpleHTTPRequestHandler):
    """Python's own server of static files: it knows no ranges."""

    def log_message(self, *_: Any) -> None:
        return


@contextlib.contextmanager
def static(folder: Path) -> Any:
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Device:
    """An agent's own parts, put together as its app does, with a mirror and no controller."""

    def __init__(self, office: Office, url: str, home: Path) -> None:
        self.changed = asyncio.Event()
        self.changes: list[Change] = []
        self.refused: list[AgentError] = []
        self.blobs = MemoryBlobs()
        store, clock, runtime = MemoryDeviceStore(), SystemClock(), OnnxRuntime()
        rng = Random(1)  # noqa: S311 - jitter
        store.identity.save(
            Identity(
                device=DEVICE,
                certificate_pem=b"",
                server_ca_pem=b"",
                session_address="",
                enrolment_address="",
                root_metadata=office.home.root.read_bytes(),
            )
        )
        network = MemoryNetwork(Centre().endpoint())
        network.isolate(DEVICE)

        async def nothing(_: object) -> None:
            return

        self.connection = Connection(
            [Route("memory", network.dialer(DEVICE))], clock, rng, nothing, nothing
        )
        mirror = HttpMirror(mirror_address(url, allow_plain=True))
        trust = ImageTrust(store, clock, "9.0", mirror=mirror.metadata)
        uplink = Uplink(self.connection, self.blobs, trust, mirror)
        self.deployments: Deployments[Any, Any] = Deployments(
            {runtime.name: runtime}, self.blobs.read, read_reference, Observer
        )
        self.installs = InstallLoop(
            store=store,
            blobs=self.blobs,
            trust=uplink,
            fetcher=uplink,
            self_test=Passing(),
            deployments=self.deployments,
            facts=lambda: read_facts(home, ""),
            clock=clock,
            on_change=self._on_change,
            policy=ProbationPolicy(minimum_seconds=0.0, minimum_requests=0, maximum_seconds=0.001),
            rng=rng,
            opsets=lambda: {runtime.name: runtime.highest_opset()},
        )
        self.directives = DirectiveLoop(
            trust,
            uplink.metadata,
            lambda _: self.installs.wake(),
            self.refused.append,
            clock,
            rng,
        )

    def _on_change(self, change: Change) -> None:
        self.changes.append(change)
        self.changed.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(loop)
            for loop in (self.connection.run(), self.installs.run(), self.directives.run())
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.deployments.close()

    async def until(self, name: str) -> Change:
        async with asyncio.timeout(DEADLINE):
            while True:
                for change in self.changes:
                    if change.name == name:
                        return change
                self.changed.clear()
                await self.changed.wait()


def directive(office: Office) -> bytes:
    """What the controller left with a broker, say, before it went down."""
    with office.store.read() as tx:
        version = next(one for one in tx.registry.versions(MODEL) if one.state is State.PUBLISHED)
    document = directives.directive(DEVICE, 1, [directives.assignment(version)], datetime.now(UTC))
    return directives.signed(document, KeyFiles(office.home.keys).signer("director"))


@pytest.fixture
def mirror(published: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    Muster(monkeypatch, published.profiles[Role.VIEWER]).ok("mirror", "sync", folder)
    return folder


def swap(mirror: Path) -> str:
    """The digest of a blob in whose place another's bytes stand now, as many as it had."""
    largest, other = sorted(mirror.glob("blobs/*/*"), key=lambda path: -path.stat().st_size)[:2]
    length = largest.stat().st_size
    largest.write_bytes(other.read_bytes().ljust(length, b"\0")[:length])
    return largest.name


async def test_a_device_installs_from_a_mirror_while_its_controller_is_down(
    published: Office, mirror: Path, tmp_path: Path
) -> None:
    with static(mirror) as url:
        device = Device(published, url, tmp_path)
        async with device.running():
            await device.directives.take(directive(published))
            change = await device.until("install.committed")

    assert (change.model, change.version, device.refused) == (MODEL, 1, [])


async def test_a_mirror_with_swapped_blobs_installs_nothing_and_fails_nothing(
    published: Office, mirror: Path, tmp_path: Path
) -> None:
    swapped = swap(mirror)
    with static(mirror) as url:
        device = Device(published, url, tmp_path)
        async with device.running():
            await device.directives.take(directive(published))
            change = await device.until("install.deferred")

    assert change.code == "transport"
    assert swapped not in device.blobs.complete
    assert swapped not in device.blobs.partial
    assert "install.failed" not in {one.name for one in device.changes}
