"""Tasks go to devices and replies come back, on every transport."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.transport.link import Link
from controller.federated.task import TaskState
from controller.federated.telling.loop import OrderLoop
from protos.methods import READINESS, REPLY
from protos.v1 import command_pb2, federated_pb2
from tests.contracts.centre import DEADLINE
from tests.contracts.federated_place import CLOCK, FederatedCentre, now_ms
from tests.contracts.federated_values import READY, RUN, TASK
from tests.contracts.networks import NETWORKS, Network
from tests.contracts.stored import DEVICE

ANSWER = b"\x00reply" * 200


@pytest.fixture
def centre() -> FederatedCentre:
    centre = FederatedCentre()
    centre.gate.set()
    with centre.store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.runs.put(RUN)
    return centre


@pytest.fixture(params=list(NETWORKS))
async def network(
    request: pytest.FixtureRequest, centre: FederatedCentre, tmp_path: Path
) -> AsyncIterator[Network]:
    async with NETWORKS[request.param](centre, tmp_path) as network:
        centre.orders = OrderLoop(centre.store, network.courier, CLOCK, interval=60.0)
        yield network


def post(centre: FederatedCentre) -> None:
    with centre.store.begin() as tx:
        tx.tasks.add([replace(TASK, posted_ms=now_ms(), deadline_ms=now_ms() + 60_000)])


async def dial(network: Network) -> Link:
    return await (await network.dialer("dev-1")).dial()


async def next_order(link: Link) -> federated_pb2.FederatedOrder:
    async with asyncio.timeout(DEADLINE):
        command = command_pb2.Command.FromString(await anext(link.commands()))
    assert command.WhichOneof("kind") == "federated"
    return command.federated


async def turn(centre: FederatedCentre) -> None:
    assert centre.orders is not None
    await centre.orders.turn()


async def test_a_device_is_told_its_task_replies_and_is_told_when_it_is_over(
    network: Network, centre: FederatedCentre
) -> None:
    link = await dial(network)
    post(centre)
    await turn(centre)

    task = (await next_order(link)).task
    assert (task.task_id, task.run, task.model, task.version) == (TASK.id, RUN.id, "digits", 3)
    assert (task.message, task.manifest_sha256) == (TASK.message, RUN.manifest_sha256)
    assert [(one.key, one.sha256, one.length) for one in task.arrays] == [
        ("arrays", "a" * 64, 1000)
    ]
    assert 0 < task.remaining_ms <= 60_000
    assert task.encoding == federated_pb2.UPDATE_ENCODING_INT8_STEP

    digest = hashlib.sha256(ANSWER).hexdigest()
    for offset in (0, 600):
        data = ANSWER[offset : offset + 600]
        piece = federated_pb2.ReplyPiece(
            task_id=task.task_id, sha256=digest, length=len(ANSWER), offset=offset, data=data
        )
        answer = await link.call(REPLY.name, piece.SerializeToString())
        receipt = federated_pb2.ReplyReceipt.FromString(answer)
        assert receipt.have == offset + 600
    assert receipt.complete
    assert centre.replies.read(TASK.id) == ANSWER

    with centre.store.begin() as tx:
        assert tx.tasks.newest_open("dev-1") is None
        tx.tasks.put(replace(TASK, state=TaskState.SILENT))
    await turn(centre)
    assert not (await next_order(link)).HasField("task")
    await link.close()


async def test_a_device_that_was_away_is_told_when_it_connects(
    network: Network, centre: FederatedCentre
) -> None:
    post(centre)
    await turn(centre)  # nobody is there to be told

    dialer = await network.dialer("dev-1")
    link = await dialer.dial()
    assert (await next_order(link)).task.task_id == TASK.id
    await network.cut("dev-1")
    await centre.until(lambda: centre.presence[-1:] == [("down", "dev-1")])
    with centre.store.begin() as tx:
        tx.tasks.put(replace(TASK, state=TaskState.SILENT))
    await turn(centre)

    again = await dialer.dial()
    assert not (await next_order(again)).HasField("task")
    await again.close()


async def test_what_a_device_says_of_its_readiness_is_stored(
    network: Network, centre: FederatedCentre
) -> None:
    link = await dial(network)
    told = federated_pb2.ModelReadiness(
        model="digits", version=3, manifest_sha256="a" * 64, eligible=True, examples=7, held_out=2
    )
    await link.publish(READINESS, federated_pb2.Readiness(models=[told]).SerializeToString())
    await centre.until(lambda: ("ready", "dev-1") in centre.presence)

    with centre.store.read() as tx:
        (stored,) = tx.tasks.readiness("digits")
    wanted = replace(
        READY, manifest_sha256="a" * 64, examples=7, held_out=2, told_ms=stored.told_ms
    )
    assert stored == wanted
    await link.close()
