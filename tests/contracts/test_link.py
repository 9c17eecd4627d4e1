"""What every ``Link`` promises, on every transport."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import Refused, TransportError
from agent.federated.machine import State
from agent.federated.record import Task
from agent.federated.task.pieces import piece_of
from agent.transport import controller_client
from agent.transport.link import Link
from controller.federated.readiness import MOST_MODELS
from protos.limits import CHUNK_BYTES
from protos.methods import FACTS, METADATA, READINESS, REPLY, SUBJECTS, UPLOAD
from protos.v1 import federated_pb2
from tests.contracts.centre import (
    BLOB,
    BLOB_SHA256,
    DEADLINE,
    PIECE,
    Centre,
    directive,
    order,
    refresh,
)
from tests.contracts.networks import NETWORKS, Network


@pytest.fixture
def centre() -> Centre:
    centre = Centre()
    centre.gate.set()
    return centre


@pytest.fixture(params=list(NETWORKS))
async def network(
    request: pytest.FixtureRequest, centre: Centre, tmp_path: Path
) -> AsyncIterator[Network]:
    async with NETWORKS[request.param](centre, tmp_path) as network:
        yield network


@pytest.fixture
async def link(network: Network) -> AsyncIterator[Link]:
    link = await (await network.dialer("d1")).dial()
    yield link
    await link.close()


async def whole(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def do(link: Link, work: str) -> None:
    async with asyncio.timeout(DEADLINE):
        if work == "call":
            await link.call(UPLOAD.name, b"x")
        elif work == "publish":
            await link.publish(FACTS, b"x")
        elif work == "fetch":
            await whole(link.fetch(BLOB_SHA256, 0))
        else:
            async for _ in link.commands():
                pass


async def ends_with_transport_error(link: Link, work: str) -> None:
    with pytest.raises(TransportError):
        await do(link, work)


async def test_a_call_is_answered(link: Link) -> None:
    assert await link.call(METADATA.name, b"root.json") == b"d1/root.json"


async def test_calls_at_the_same_time_get_their_own_answers(link: Link) -> None:
    answers = await asyncio.gather(
        *(link.call(METADATA.name, str(number).encode()) for number in range(20))
    )

    assert answers == [f"d1/{number}".encode() for number in range(20)]


async def test_a_refused_call_says_why_and_what_to_do(link: Link) -> None:
    with pytest.raises(Refused) as caught:
        await link.call(METADATA.name, b"conflict")

    assert caught.value.code == "conflict"
    assert caught.value.detail == "d1 asked for a conflict"
    assert "decide anew" in caught.value.remedy


async def test_who_asks_too_often_is_told_when_to_ask_again(link: Link) -> None:
    with pytest.raises(Refused) as caught:
        await link.call(METADATA.name, b"often")
    with pytest.raises(Refused) as told:
        await link.publish(FACTS, b"often")
    with pytest.raises(Refused) as never:
        await link.call(METADATA.name, b"conflict")

    assert [one.value.code for one in (caught, told)] == ["too-often"] * 2
    assert [one.value.retry_after_ms for one in (caught, told, never)] == [1500, 2500, 0]


async def test_what_is_larger_than_its_kind_ever_is_is_refused_unread(
    link: Link, centre: Centre
) -> None:
    for asking in (
        link.call(REPLY.name, b"\xff" * (REPLY.most_bytes + 1)),
        link.publish(READINESS, b"\xff" * (SUBJECTS[READINESS] + 1)),
    ):
        with pytest.raises(Refused) as caught:
            await asking
        assert caught.value.code == "too-large"

    assert centre.intake.pieces == []
    assert centre.intake.readiness == {}


async def test_the_largest_that_an_agent_ever_sends_is_taken(link: Link, centre: Centre) -> None:
    piece = federated_pb2.ReplyPiece(
        task_id="t" * 64,
        sha256="a" * 64,
        length=2**63,
        offset=2**62,
        data=bytes(CHUNK_BYTES),
    )
    told = federated_pb2.ModelReadiness(
        model="m" * 64,
        version=2**31 - 1,
        manifest_sha256="a" * 64,
        reason="r" * 64,
        examples=2**53,
        held_out=2**53,
    )

    await link.call(REPLY.name, piece.SerializeToString())
    await link.publish(
        READINESS, federated_pb2.Readiness(models=[told] * MOST_MODELS).SerializeToString()
    )

    assert centre.intake.pieces == [("t" * 64, 2**62, CHUNK_BYTES)]
    assert len(centre.intake.readiness["d1"].models) == MOST_MODELS


async def test_a_controller_that_fails_has_not_refused(link: Link) -> None:
    with pytest.raises(TransportError) as caught:
        await link.call(METADATA.name, b"broken")

    assert "fire" not in str(caught.value)


async def test_a_refusal_leaves_the_link_up(link: Link) -> None:
    with pytest.raises(Refused):
        await link.call(METADATA.name, b"conflict")

    assert await link.call(METADATA.name, b"x") == b"d1/x"


async def test_a_blob_comes_whole(link: Link) -> None:
    assert await whole(link.fetch(BLOB_SHA256, 0)) == BLOB


@pytest.mark.parametrize("offset", [1, PIECE, len(BLOB) - 1, len(BLOB)])
async def test_a_blob_comes_from_an_offset(link: Link, offset: int) -> None:
    assert await whole(link.fetch(BLOB_SHA256, offset)) == BLOB[offset:]


async def test_an_unknown_blob_is_refused(link: Link) -> None:
    with pytest.raises(Refused) as caught:
        await whole(link.fetch("0" * 64, 0))

    assert caught.value.code == "not-found"


async def test_what_is_no_digest_is_refused(link: Link) -> None:
    with pytest.raises(Refused) as caught:
        await whole(link.fetch("../../etc/passwd", 0))

    assert caught.value.code == "invalid-input"


async def test_a_fetch_that_is_left_early_disturbs_nothing(link: Link) -> None:
    async for piece in link.fetch(BLOB_SHA256, 0):
        assert BLOB.startswith(piece)
        break

    assert await link.call(METADATA.name, b"x") == b"d1/x"


async def test_what_is_published_has_arrived_when_it_is_acknowledged(
    link: Link, centre: Centre
) -> None:
    for number in range(3):
        await link.publish(FACTS, str(number).encode())

    assert centre.heard == [("d1", FACTS, b"0"), ("d1", FACTS, b"1"), ("d1", FACTS, b"2")]


async def test_a_publication_that_is_not_taken_yet_is_not_acknowledged(
    link: Link, centre: Centre
) -> None:
    centre.gate.clear()
    publishing = asyncio.create_task(link.publish(FACTS, b"x"))
    await centre.entered["publish"].wait()
    assert not publishing.done()

    centre.gate.set()
    async with asyncio.timeout(DEADLINE):
        await publishing


@pytest.mark.parametrize(("subject", "payload"), [(FACTS, b"bad"), ("gossip", b"x")])
async def test_a_refused_publication_raises_and_leaves_the_link_up(
    link: Link, subject: str, payload: bytes
) -> None:
    with pytest.raises(Refused) as caught:
        await link.publish(subject, payload)

    assert caught.value.code == "invalid-input"
    await link.publish(FACTS, b"good")


async def test_commands_come_in_order(link: Link, network: Network) -> None:
    await network.courier.send("d1", directive(1))
    await network.courier.send("d1", refresh())
    commands = link.commands()
    async with asyncio.timeout(DEADLINE):
        received = [await anext(commands), await anext(commands)]

    assert received == [directive(1), refresh()]


async def test_the_newest_directive_wins(link: Link, network: Network) -> None:
    for generation in range(1, 101):
        await network.courier.send("d1", directive(generation))
    received = []
    async with asyncio.timeout(DEADLINE):
        async for command in link.commands():
            received.append(command)
            if command == directive(100):
                break

    generations = [directive(number) for number in range(1, 101)]
    positions = [generations.index(command) for command in received]
    assert positions == sorted(set(positions))
    assert len(received) < 100  # what still waited was replaced


async def test_the_newest_order_of_a_task_wins_and_leaves_directives_alone(
    link: Link, network: Network
) -> None:
    await network.courier.send("d1", directive(1))
    for number in range(1, 51):
        await network.courier.send("d1", order(str(number)))
    await network.courier.send("d1", order(""))
    received = []
    async with asyncio.timeout(DEADLINE):
        async for command in link.commands():
            received.append(command)
            if command == order(""):
                break

    orders = [order(str(number)) for number in range(1, 51)]
    positions = [orders.index(command) for command in received if command in orders]
    assert positions == sorted(set(positions))
    assert directive(1) in received


async def test_a_reply_goes_up_in_pieces_as_large_as_those_of_blobs(
    link: Link, centre: Centre
) -> None:
    reply = BLOB * 4
    task = Task(
        id="t1", run="r", round=1, phase="train", model="m", version=1, state=State.SENDING,
        since=0.0, reply=hashlib.sha256(reply).hexdigest(), reply_bytes=len(reply),
    )  # fmt: skip
    receipt = federated_pb2.ReplyReceipt()
    while not receipt.complete:
        receipt = await controller_client.reply(link, piece_of(task, reply, receipt.have))

    assert centre.intake.replies == {"t1": reply}
    assert [size for _, _, size in centre.intake.pieces] == [CHUNK_BYTES, CHUNK_BYTES, 115_712]
    again = await controller_client.reply(link, piece_of(task, reply, 0))
    assert (again.complete, again.have) == (True, len(reply))


async def test_a_reply_that_is_not_wanted_is_told_so(link: Link, centre: Centre) -> None:
    centre.intake.unwanted["t1"] = "late"

    receipt = await controller_client.reply(link, federated_pb2.ReplyPiece(task_id="t1", length=1))

    assert receipt.refused.code == "late"


async def test_readiness_is_heard(link: Link, centre: Centre) -> None:
    ready = federated_pb2.Readiness(
        models=[federated_pb2.ModelReadiness(model="digits", version=3, eligible=True)]
    )
    await controller_client.publish_readiness(link, ready)

    assert centre.intake.readiness == {"d1": ready}


@pytest.mark.parametrize("work", ["call", "publish", "fetch", "commands"])
async def test_a_cut_link_ends_what_is_under_way_with_our_error_only(
    link: Link, network: Network, centre: Centre, work: str
) -> None:
    centre.gate.clear()
    running = asyncio.create_task(ends_with_transport_error(link, work))
    if work != "commands":
        async with asyncio.timeout(DEADLINE):
            await centre.entered[work].wait()

    await network.cut("d1")
    await running


@pytest.mark.parametrize("work", ["call", "publish", "fetch", "commands"])
async def test_a_link_that_was_cut_stays_down(link: Link, network: Network, work: str) -> None:
    await network.cut("d1")
    await ends_with_transport_error(link, "commands")

    await ends_with_transport_error(link, work)


@pytest.mark.parametrize("work", ["call", "publish", "fetch", "commands"])
async def test_closing_ends_what_is_under_way(link: Link, centre: Centre, work: str) -> None:
    centre.gate.clear()
    running = asyncio.create_task(ends_with_transport_error(link, work))
    if work != "commands":
        async with asyncio.timeout(DEADLINE):
            await centre.entered[work].wait()

    await link.close()
    await running


@pytest.mark.parametrize("work", ["call", "publish", "fetch"])
async def test_a_cancelled_caller_is_cancelled_and_the_link_lives(
    link: Link, centre: Centre, work: str
) -> None:
    centre.gate.clear()
    running = asyncio.create_task(ends_with_transport_error(link, work))
    async with asyncio.timeout(DEADLINE):
        await centre.entered[work].wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await link.call(METADATA.name, b"x") == b"d1/x"


async def test_a_link_may_be_closed_twice(link: Link) -> None:
    await link.close()
    await link.close()

    await ends_with_transport_error(link, "call")


async def test_a_revoked_device_is_refused(network: Network, centre: Centre) -> None:
    centre.revoked.add("d2")

    with pytest.raises(Refused) as caught:
        await (await network.dialer("d2")).dial()

    assert caught.value.code == "device-revoked"
    assert "enrol it anew" in caught.value.remedy
    assert network.courier.connected() == frozenset()


async def test_nobody_there_is_a_transport_error(network: Network) -> None:
    dialer = await network.dialer("d3")
    await network.isolate("d3")

    with pytest.raises(TransportError):
        await dialer.dial()
