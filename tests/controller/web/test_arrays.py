"""A run's parameters go over a site's uplink once: its mirror asks for what it does not have."""

import asyncio
import hashlib
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from agent.clock import SystemClock
from agent.transport.connection import Connection
from agent.transport.http_mirror import HttpMirror
from agent.transport.mirror import mirror_address
from agent.transport.route import Route
from agent.trust.actions import ImageTrust
from agent.uplink import Uplink
from controller.access.operator import Role
from controller.federated.task import ArraysReference, TaskState
from controller.web import byte_range
from simulations.memory_blobs import MemoryBlobs
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_link import MemoryNetwork
from tests.contracts.centre import BLOB, BLOB_SHA256, DEADLINE, Centre
from tests.contracts.federated_values import TASK
from tests.contracts.mirrors import Site, Visit, serving, with_ranges
from tests.controller.web.api import Api

ARRAYS = BLOB
SLICE = 1 + len(ARRAYS) // 3
WHERE = f"federated/arrays/{BLOB_SHA256}"


def posted(api: Api, data: bytes = ARRAYS) -> str:
    """A task that is open, with these bytes as its arrays."""
    sha256 = api.app.state.services.blobs.put(data)
    named = replace(TASK, arrays=(ArraysReference("arrays", sha256, len(data)),))
    with api.store.begin() as tx:
        tx.tasks.add([named])
    return str(sha256)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-", range(10)),
        ("bytes=3-5", range(3, 6)),
        ("bytes=9-20", range(9, 10)),
        ("bytes=0-0", range(1)),
        ("bytes=10-", None),
        ("bytes=5-3", None),
        ("bytes=-3", None),
        ("bytes=0-1,4-5", None),
        ("lines=0-1", None),
        ("", None),
    ],
)
def test_one_range_is_understood_and_all_else_asks_for_everything(
    header: str, part: range | None
) -> None:
    assert byte_range.asked(header, 10) == part


def test_nothing_has_no_part() -> None:
    assert byte_range.asked("bytes=0-", 0) is None


async def test_arrays_of_an_open_task_can_be_had_whole_or_in_part(api: Api) -> None:
    posted(api)

    whole = await api.send("GET", WHERE, Role.VIEWER)
    part = await api.http.get(
        f"/api/v1/{WHERE}",
        headers={"Authorization": f"Bearer {api.tokens[Role.VIEWER]}", "Range": "bytes=2-4"},
    )

    assert (whole.status_code, whole.content) == (200, ARRAYS)
    assert whole.headers["Content-Length"] == str(len(ARRAYS))
    assert (part.status_code, part.content) == (206, ARRAYS[2:5])
    assert part.headers["Content-Range"] == f"bytes 2-4/{len(ARRAYS)}"
    assert part.headers["Content-Length"] == "3"


async def test_nothing_else_can_be_had_by_its_digest(api: Api) -> None:
    posted(api)
    model = api.app.state.services.blobs.put(b"a model, or a coordinator's state")

    assert (await api.refusal("GET", WHERE, None))[:2] == (401, "not-authenticated")
    assert (await api.refusal("GET", f"federated/arrays/{model}"))[:2] == (404, "not-found")
    assert (await api.refusal("GET", "federated/arrays/..%2f..%2fkey"))[0] in {404, 422}
    with api.store.begin() as tx:
        (task,) = tx.tasks.unsettled()
        tx.tasks.put(replace(task, state=TaskState.SILENT))
    assert (await api.refusal("GET", WHERE))[:2] == (404, "not-found")


# --- A mirror that asks for what it has not ---------------------------------------------------------


@dataclass
class PullingMirror:
    """What docs/mirror.md has nginx do: slices of what is not there are asked for once, and kept."""

    api: Api
    token: str
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    site: Site = field(default_factory=Site)
    upstream: list[str] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.site.answer = self._answer

    def _answer(self, visit: Visit, _: bytes | None) -> None:
        path = visit.path.lstrip("/")
        with self._turn:
            if path not in self.site.files and (found := self._pulled(path)) is not None:
                self.site.files[path] = found
        with_ranges(visit, self.site.files.get(path))

    def _pulled(self, path: str) -> bytes | None:
        data, length = b"", 1
        while len(data) < length:
            part = f"bytes={len(data)}-{len(data) + SLICE - 1}"
            asking = self.api.http.get(
                f"/api/v1/federated/arrays/{path.rpartition('/')[2]}",
                headers={"Authorization": f"Bearer {self.token}", "Range": part},
            )
            answer = asyncio.run_coroutine_threadsafe(asking, self.loop).result(DEADLINE)
            self.upstream.append(part)
            if answer.status_code != 206:
                return None
            data += answer.content
            length = int(re.sub(".*/", "", answer.headers["Content-Range"]))
        return data


@dataclass
class Device:
    uplink: Uplink
    blobs: MemoryBlobs


@asynccontextmanager
async def devices(url: str, names: tuple[str, ...], centre: Centre) -> AsyncIterator[list[Device]]:
    """Agents' own parts, each with the mirror and a link to the controller."""

    async def greeted(_: object) -> None:
        return

    found, running = [], []
    for name in names:
        rng, clock = Random(1), SystemClock()  # noqa: S311 - jitter
        route = Route("memory", MemoryNetwork(centre.endpoint()).dialer(name))
        connection = Connection([route], clock, rng, greeted, greeted)
        mirror, blobs = HttpMirror(mirror_address(url, allow_plain=True)), MemoryBlobs()
        trust = ImageTrust(MemoryDeviceStore(), clock, "1", mirror=mirror.metadata)
        found.append(Device(Uplink(connection, blobs, trust, mirror), blobs))
        running.append(asyncio.create_task(connection.run()))
        await connection.link()
    try:
        yield found
    finally:
        for one in running:
            one.cancel()
        await asyncio.wait(running)


async def test_a_sites_devices_cost_its_uplink_one_copy_of_the_parameters(api: Api) -> None:
    posted(api)
    centre = Centre()
    mirror = PullingMirror(api, api.tokens[Role.VIEWER])
    with serving(mirror.site) as url:
        async with asyncio.timeout(DEADLINE), devices(url, ("d1", "d2", "d3"), centre) as site:
            await asyncio.gather(*(one.uplink.fetch(BLOB_SHA256, len(ARRAYS)) for one in site))

    assert [one.blobs.read(BLOB_SHA256) for one in site] == [ARRAYS] * 3
    assert len(mirror.upstream) == 3
    assert len(mirror.site.asked) == 3
    assert not centre.entered["fetch"].is_set()


@pytest.mark.parametrize("amiss", ["no token", "other bytes", "no task"])
async def test_what_the_mirror_can_t_bring_comes_over_the_link(api: Api, amiss: str) -> None:
    if amiss != "no task":
        posted(api)
    centre = Centre()
    centre.gate.set()
    token = "nobody's" if amiss == "no token" else api.tokens[Role.VIEWER]
    mirror = PullingMirror(api, token)
    if amiss == "other bytes":
        path = f"blobs/{BLOB_SHA256[:2]}/{BLOB_SHA256}"
        mirror.site.files[path] = hashlib.sha256(ARRAYS).digest() * len(ARRAYS)
    with serving(mirror.site) as url:
        async with asyncio.timeout(DEADLINE), devices(url, ("d1",), centre) as (device,):
            await device.uplink.fetch(BLOB_SHA256, len(ARRAYS))

    assert device.blobs.read(BLOB_SHA256) == ARRAYS
    assert centre.entered["fetch"].is_set()
    assert len(mirror.site.asked) == 1
