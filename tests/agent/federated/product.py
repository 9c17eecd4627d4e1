"""One device of the product, wired as in the agent: examples, trainer process, disk and link."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from agent.around import Around
from agent.clock import SystemClock
from agent.commands import Commands
from agent.config import AgentConfig, Connecting, Training
from agent.home import Home
from agent.identity import keys
from agent.inference.actions import Deployments
from agent.inference.golden import Golden, encode
from agent.install.gates import Circumstances
from agent.runtimes.onnx import OnnxRuntime
from agent.serving.workers import Workers
from agent.store.blob_folder import BlobFolder
from agent.store.sqlite_store import SqliteStore
from agent.taking_part import TakingPart, taking_part
from agent.telemetry.actions import Reporter
from agent.telemetry.loop import ReportLoop
from agent.transport.backoff import Backoff
from agent.transport.connection import Connection
from agent.transport.link import Link
from agent.transport.route import Patience, Route
from agent.trust.actions import ImageTrust
from agent.uplink import Uplink
from controller.transport.dispatch import Dispatch
from protos.documents import sha256
from protos.limits import CHUNK_BYTES
from protos.manifest import File, Manifest, Role
from protos.methods import READINESS, REPLY
from simulations.memory_intake import MemoryIntake
from simulations.memory_link import MemoryNetwork
from tests.agent.federated.learners import Learner, clouds
from tests.agent.hosting import Seen, deployed

DEADLINE = 40.0
CONFIG = AgentConfig(
    training=Training(collect=True, fewest_examples=10),
    connecting=Connecting(backoff_seconds=0.01, backoff_cap_seconds=0.05),
)


async def nothing(*_: Any) -> None:
    return


class Centre:
    """The controller's end."""

    def __init__(self) -> None:
        self.intake = MemoryIntake()
        self.network = MemoryNetwork(
            Dispatch(
                actions={REPLY.name: self.intake.reply},
                listeners={READINESS: self.intake.hear},
                admission=nothing,
                arrival=nothing,
                departure=nothing,
                blobs=self._blob,
            )
        )

    async def _blob(
        self, device: str, digest: str, offset: int, have: Sequence[str]
    ) -> AsyncIterator[bytes]:
        del device, have
        data = self.intake.blobs[digest]
        for start in range(offset, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]


class Device:
    """One agent's part in runs, over a folder that outlives it."""

    def __init__(
        self,
        folder: Path,
        learner: Learner,
        network: MemoryNetwork,
        config: AgentConfig = CONFIG,
        name: str = "d1",
    ) -> None:
        self.home, self.config, self.network, self.name = Home(folder), config, network, name
        self.blobs = BlobFolder(self.home.blobs)
        self.manifest = self._manifest(learner)
        for data in (*learner.blobs.values(), self.golden, b""):
            writer = self.blobs.writer(sha256(data), len(data))
            writer.write(data)
            writer.finish()

    def _manifest(self, learner: Learner) -> Manifest:
        x = clouds(2)[0]
        loaded = OnnxRuntime().load(learner.model, learner.manifest)
        outputs = {"logits": loaded.run({"x": x}, ["logits"])[0]}
        self.golden = encode(Golden({"x": x}, outputs, {}))
        golden = File(sha256=sha256(self.golden), length=len(self.golden))
        files = {**learner.manifest.files, Role.GOLDEN: golden}
        return replace(learner.manifest, files=files)

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[TakingPart]:
        clock, rng = SystemClock(), random.Random(1)  # noqa: S311 - jitter, not secrets
        store = SqliteStore(self.home.path)
        host: Deployments[Seen, bytes] = Deployments(
            {"onnxruntime": OnnxRuntime()}, self.blobs.read, lambda data: data, Seen
        )
        await host.prepare(deployed(self.manifest), self.manifest)
        host.activate(self.manifest.model, "champion")
        commands, parts = Commands(), list[TakingPart]()

        async def on_up(_: Link) -> None:
            parts[0].link_up()

        connection = Connection(
            [Route("memory", self.network.dialer(self.name))], clock, rng,
            commands.take, on_up, Patience(unanswered=Backoff(0.01, 0.05)),
        )  # fmt: skip
        trust = ImageTrust(store, clock, "1")
        reporter = Reporter(store, keys.signer(keys.generate_key()), cast("Any", None), clock)
        reports = ReportLoop(reporter, lambda: None)
        workers = Workers(1)
        part = taking_part(
            Around(
                home=self.home, config=self.config, store=store, blobs=self.blobs,
                deployments=cast("Any", host), workers=workers,
                uplink=lambda into: Uplink(connection, into, trust), circumstances=Circumstances,
                reports=reports, clock=clock, rng=rng,
            )
        )  # fmt: skip
        parts.append(part)
        commands.federated = part.take
        running = [
            asyncio.create_task(one) for one in (connection.run(), reports.run(), *part.loops())
        ]
        try:
            yield part
        finally:
            for one in running:
                one.cancel()
            await asyncio.wait(running)
            await part.rest()
            await reports.flush()
            workers.close()
            host.close()
            self.told = [record.payload for record in store.spool.batch(99, 1 << 20)]
            store.close()


async def eventually(happened: Callable[[], bool]) -> None:
    """The trainer's process takes the time that it takes."""
    async with asyncio.timeout(DEADLINE):
        while not happened():  # noqa: ASYNC110 - what it waits for is in other processes and threads
            await asyncio.sleep(0.005)
