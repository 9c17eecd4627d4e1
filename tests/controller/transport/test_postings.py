import asyncio
from pathlib import Path

from controller.transport.mqtt.postings import MOST, Postings
from protos.mqtt import topics
from protos.mqtt.broker import Broker as Access
from protos.mqtt.broker import Habits
from protos.mqtt.connection import Incoming, connected
from protos.v1 import command_pb2, common_pb2
from tests.brokers import DEADLINE, Broker, mosquitto


def access(broker: Broker, device: str = "") -> Access:
    known = broker.certificates
    shown = known.device(device) if device else known.controller
    address = broker.devices if device else broker.controllers
    ca = known.broker_authority.certificate_pem
    return Access(address, ca, shown.certificate_pem, shown.key_pem)


def directive(generation: int) -> command_pb2.Command:
    envelope = common_pb2.Envelope(payload=str(generation).encode())
    return command_pb2.Command(directive=envelope)


async def stands(broker: Broker, device: str) -> bytes:
    """The payload of the directive that stands at the broker for the device."""
    found: asyncio.Queue[Incoming] = asyncio.Queue()
    async with (
        asyncio.timeout(DEADLINE),
        connected(access(broker, device), f"client-{device}", found.put_nowait, Habits()) as client,
    ):
        await client.subscribe([topics.desired(device)])
        return common_pb2.Envelope.FromString((await found.get()).payload).payload


async def test_the_newest_directive_of_everybody_stands_at_the_broker(tmp_path: Path) -> None:
    devices = [f"d{number}" for number in range(2 * MOST)]
    postings = Postings()
    async with mosquitto(tmp_path) as broker:
        async with connected(access(broker), "controller", lambda _: None, Habits()) as client:
            for generation in (1, 2, 3):
                for device in devices:
                    await postings.post(client, device, directive(generation))
            await postings.settle()

        for device in (devices[0], devices[-1]):
            assert await stands(broker, device) == b"3"


async def test_what_can_not_be_posted_any_more_is_let_go(tmp_path: Path) -> None:
    postings = Postings()
    async with mosquitto(tmp_path) as broker:
        async with connected(access(broker), "controller", lambda _: None, Habits()) as client:
            await broker.kill()
            await client.ended()
            for number in range(2 * MOST):
                await postings.post(client, f"d{number}", directive(1))
            await postings.settle()
        await broker.start()
        async with connected(access(broker), "controller", lambda _: None, Habits()) as client:
            await postings.post(client, "d1", directive(2))
            await postings.settle()

        assert await stands(broker, "d1") == b"2"
