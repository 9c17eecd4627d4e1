"""The product's own parts, wired as in the agent: examples, trainer process, disk, link, and a run."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from agent.clock import SystemClock
from agent.commands import Commands
from agent.config import AgentConfig, Connecting, Training
from agent.federated.update import Parameters, write_parameters
from agent.home import Home
from agent.identity import keys
from agent.inference.actions import Deployments
from agent.inference.golden import Golden, encode
from agent.install.gates import Circumstances
from agent.runtimes.onnx import OnnxRuntime
from agent.serving.workers import Workers
from agent.store.blob_folder import BlobFolder
from agent.store.sqlite_store import SqliteStore
from agent.taking_part import Around, NotTakingPart, TakingPart, taking_part
from agent.telemetry.actions import Reporter
from agent.telemetry.loop import ReportLoop
from agent.training_note import read_training
from agent.transport.backoff import Backoff
from agent.transport.connection import Connection
from agent.transport.link import Link
from agent.transport.route import Patience, Route
from agent.trust.actions import ImageTrust
from agent.uplink import Uplink
from controller.transport.dispatch import Dispatch
from protos.documents import sha256
from protos.flower.arrays import read_array
from protos.limits import CHUNK_BYTES
from protos.manifest import File, Manifest, Role
from protos.methods import READINESS, REPLY
from protos.v1 import command_pb2, federated_pb2, telemetry_pb2
from simulations.memory_intake import MemoryIntake
from simulations.memory_link import MemoryNetwork
from tests.agent.federated.learners import Learner, classifier, clouds
from tests.agent.federated.world import arrays_of, message, metrics_of, read_reply
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

    def __init__(self, folder: Path, learner: Learner, centre: Centre, config: AgentConfig) -> None:
        self.home, self.config, self.centre = Home(folder), config, centre
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
            [Route("memory", self.centre.network.dialer("d1"))], clock, rng,
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

    def order(
        self, task: str, phase: str, parameters: Parameters, **config: Any
    ) -> federated_pb2.FederatedOrder:
        record = write_parameters(parameters)
        digest = self.centre.intake.put(record)
        return federated_pb2.FederatedOrder(
            task=federated_pb2.FederatedTask(
                task_id=task, run="learner-r1", round=1,
                model=self.manifest.model, version=self.manifest.version,
                manifest_sha256=self.manifest.digest,
                message=message(task, phase, **config).SerializeToString(),
                arrays=[
                    federated_pb2.ArrayReference(key="arrays", sha256=digest, length=len(record))
                ],
                encoding=federated_pb2.UPDATE_ENCODING_INT8_STEP,
                remaining_ms=60_000,
            )
        )  # fmt: skip

    async def reply_to(self, order: federated_pb2.FederatedOrder) -> Any:
        command = command_pb2.Command(federated=order).SerializeToString()
        await eventually(lambda: "d1" in self.centre.network.connected())
        await self.centre.network.send("d1", command)
        await eventually(lambda: order.task.task_id in self.centre.intake.replies)
        return read_reply(self.centre.intake.replies[order.task.task_id])


async def eventually(happened: Callable[[], bool]) -> None:
    """The trainer's process takes the time that it takes."""
    async with asyncio.timeout(DEADLINE):
        while not happened():  # noqa: ASYNC110 - what it waits for is in other processes and threads
            await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier()


def moved(parameters: Parameters, reply: Any) -> dict[str, Any]:
    items = arrays_of(reply).items
    return {item.key: read_array(item.value, parameters[item.key]) for item in items}


async def test_a_device_learns_over_rounds_restarts_and_a_link_that_breaks(
    tmp_path: Path, learner: Learner
) -> None:
    centre = Centre()
    device = Device(tmp_path, learner, centre, CONFIG)
    parameters: Parameters = learner.parameters
    async with device.agent() as part:
        x, truth = clouds(160)
        part.collector.add("learner", None, {"x": x}, truth.tolist())
        part.wake()
        await eventually(lambda: any(one.eligible for one in readiness(centre)))
        before = metrics_of(await device.reply_to(device.order("e0", "evaluate", parameters)))
        parameters = moved(parameters, await device.reply_to(train(device, "t1", parameters)))
        centre.network.cut("d1")
        parameters = moved(parameters, await device.reply_to(train(device, "t2", parameters)))
    async with device.agent():
        parameters = moved(parameters, await device.reply_to(train(device, "t3", parameters)))
        after = metrics_of(await device.reply_to(device.order("e1", "evaluate", parameters)))

    (told,) = readiness(centre)
    assert (told.model, told.examples + told.held_out) == ("learner", 160)
    assert before["num-examples"] == after["num-examples"] == told.held_out
    assert after["eval_loss"] < before["eval_loss"] / 2
    assert after["eval_acc"] > 0.85
    (noted,) = read_training(device.home.training)
    assert (noted.code, noted.examples) == ("", told.examples)


def train(device: Device, task: str, parameters: Parameters) -> federated_pb2.FederatedOrder:
    return device.order(task, "train", parameters, lr=0.1, local_epochs=3, batch_size=16, seed=5)


def readiness(centre: Centre) -> list[federated_pb2.ModelReadiness]:
    said = centre.intake.readiness.get("d1")
    return [] if said is None else list(said.models)


async def test_what_a_device_declines_its_log_at_the_controller_tells(
    tmp_path: Path, learner: Learner
) -> None:
    centre = Centre()
    device = Device(tmp_path, learner, centre, CONFIG)
    async with device.agent():
        await eventually(lambda: [one.reason for one in readiness(centre)] == ["too-few-examples"])
        reply = await device.reply_to(train(device, "t1", learner.parameters))

    assert reply.error.reason.startswith("too-few-examples: 0 examples")
    events = [telemetry_pb2.Record.FromString(one).event for one in device.told]
    assert [(one.name, one.code, one.severity, one.fields["run"]) for one in events] == [
        ("federated.declined", "too-few-examples", "info", "learner-r1")
    ]


@pytest.mark.parametrize("settings", [Training(), Training(collect=True, take_part=False)])
async def test_a_device_whose_owner_does_not_want_it_takes_no_part(
    tmp_path: Path, learner: Learner, settings: Training
) -> None:
    centre = Centre()
    device = Device(tmp_path, learner, centre, replace(CONFIG, training=settings))
    device.home.training.write_text("[]")
    async with device.agent() as part:
        part.wake()
        part.link_up()
        part.take(train(device, "t1", learner.parameters))
        await eventually(lambda: "d1" in centre.network.connected())

    assert isinstance(part, NotTakingPart) != settings.collect
    assert (centre.intake.pieces, readiness(centre)) == ([], [])
    assert not device.home.training.exists()
