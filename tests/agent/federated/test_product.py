"""A device's part in runs with the parts that it has in the product, and a controller in memory."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.config import Training
from agent.federated.parameters import Parameters
from agent.federated.update import write_parameters
from agent.taking_part import NotTakingPart, TakingPart
from agent.training_note import read_training
from protos.flower.arrays import read_array
from protos.v1 import command_pb2, federated_pb2, telemetry_pb2
from tests.agent.federated.learners import Learner, classifier, clouds
from tests.agent.federated.product import CONFIG, Centre, Device, eventually
from tests.agent.federated.world import arrays_of, message, metrics_of, read_reply


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier()


def order(
    device: Device, centre: Centre, task: str, phase: str, parameters: Parameters, **config: Any
) -> federated_pb2.FederatedOrder:
    record = write_parameters(parameters)
    digest = centre.intake.put(record)
    return federated_pb2.FederatedOrder(
        task=federated_pb2.FederatedTask(
            task_id=task, run="learner-r1", round=1,
            model=device.manifest.model, version=device.manifest.version,
            manifest_sha256=device.manifest.digest,
            message=message(task, phase, **config).SerializeToString(),
            arrays=[
                federated_pb2.ArrayReference(key="arrays", sha256=digest, length=len(record))
            ],
            encoding=federated_pb2.UPDATE_ENCODING_INT8_STEP,
            remaining_ms=60_000,
        )
    )  # fmt: skip


async def reply_to(centre: Centre, told: federated_pb2.FederatedOrder) -> Any:
    command = command_pb2.Command(federated=told).SerializeToString()
    await eventually(lambda: "d1" in centre.network.connected())
    await centre.network.send("d1", command)
    await eventually(lambda: told.task.task_id in centre.intake.replies)
    return read_reply(centre.intake.replies[told.task.task_id])


def moved(parameters: Parameters, reply: Any) -> dict[str, Any]:
    items = arrays_of(reply).items
    return {item.key: read_array(item.value, parameters[item.key]) for item in items}


async def test_a_device_learns_over_rounds_restarts_and_a_link_that_breaks(
    tmp_path: Path, learner: Learner
) -> None:
    centre = Centre()
    device = Device(tmp_path, learner, centre.network)
    parameters: Parameters = learner.parameters
    async with device.agent() as part:
        x, truth = clouds(160)
        part.collector.add("learner", None, {"x": x}, truth.tolist())
        part.wake()
        await eventually(lambda: any(one.eligible for one in readiness(centre)))
        before = metrics_of(
            await reply_to(centre, order(device, centre, "e0", "evaluate", parameters))
        )
        parameters = moved(
            parameters, await reply_to(centre, train(device, centre, "t1", parameters))
        )
        centre.network.cut("d1")
        parameters = moved(
            parameters, await reply_to(centre, train(device, centre, "t2", parameters))
        )
        counted = samples_of(part)
    async with device.agent():
        parameters = moved(
            parameters, await reply_to(centre, train(device, centre, "t3", parameters))
        )
        after = metrics_of(
            await reply_to(centre, order(device, centre, "e1", "evaluate", parameters))
        )

    (told,) = readiness(centre)
    assert (told.model, told.examples + told.held_out) == ("learner", 160)
    assert before["num-examples"] == after["num-examples"] == told.held_out
    assert after["eval_loss"] < before["eval_loss"] / 2
    assert after["eval_acc"] > 0.85
    assert counted["muster_agent_tasks_total", "trained"] == 2
    assert counted["muster_agent_tasks_total", "evaluated"] == 1
    assert counted["muster_agent_examples", "training"] == told.examples
    assert counted["muster_agent_examples", "held-out"] == told.held_out
    assert counted["muster_agent_training_seconds_total", "running"] > 0
    (noted,) = read_training(device.home.training)
    assert (noted.code, noted.examples) == ("", told.examples)


def samples_of(part: TakingPart) -> dict[tuple[str, str], float]:
    """By name and last label."""
    return {
        (one.name, labels[-1] if labels else ""): value
        for one in part.measured()
        for labels, value in one.samples
    }


def train(
    device: Device, centre: Centre, task: str, parameters: Parameters
) -> federated_pb2.FederatedOrder:
    wishes = {"lr": 0.1, "local_epochs": 3, "batch_size": 16, "seed": 5}
    return order(device, centre, task, "train", parameters, **wishes)


def readiness(centre: Centre) -> list[federated_pb2.ModelReadiness]:
    said = centre.intake.readiness.get("d1")
    return [] if said is None else list(said.models)


async def test_what_a_device_declines_its_log_at_the_controller_tells(
    tmp_path: Path, learner: Learner
) -> None:
    centre = Centre()
    device = Device(tmp_path, learner, centre.network)
    async with device.agent() as part:
        await eventually(lambda: [one.reason for one in readiness(centre)] == ["too-few-examples"])
        reply = await reply_to(centre, train(device, centre, "t1", learner.parameters))
        counted = samples_of(part)

    assert counted["muster_agent_declined_total", "too-few-examples"] == 1
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
    device = Device(tmp_path, learner, centre.network, replace(CONFIG, training=settings))
    device.home.training.write_text("[]")
    async with device.agent() as part:
        part.wake()
        part.link_up()
        part.take(train(device, centre, "t1", learner.parameters))
        await eventually(lambda: "d1" in centre.network.connected())

    assert isinstance(part, NotTakingPart) != settings.collect
    assert samples_of(part) == {}
    assert (centre.intake.pieces, readiness(centre)) == ([], [])
    assert not device.home.training.exists()
