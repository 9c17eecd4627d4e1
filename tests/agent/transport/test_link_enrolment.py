"""A device whose certificate is good renews it over its link, and needs no other door."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.config import AgentConfig
from agent.errors import Refused, TransportError
from agent.home import Home
from agent.identity import keys
from agent.identity.actions import join, renew
from agent.routes import enrolment_dialer
from agent.transport.connection import Connection
from agent.transport.link import Link
from agent.transport.link_enrolment import LinkEnrolment
from agent.transport.route import Route
from controller.desk import DeviceDesk
from controller.transport.dispatch import Dispatch
from protos.methods import RENEW
from protos.v1 import common_pb2, enrolment_pb2
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_link import MemoryEnrolment, MemoryNetwork
from tests.contracts.centre import DEADLINE, Centre
from tests.contracts.enrolments import Office, now, renewal, wish
from tests.contracts.networks import NETWORKS


class Renewing(Centre):
    """A controller that renews over links, and says nothing else."""

    def __init__(self, office: Office) -> None:
        super().__init__()
        self.desk = DeviceDesk(office.store, MemoryControllerBlobs(), SystemClock(), office.terms)

    def endpoint(self) -> Dispatch:
        return replace(super().endpoint(), actions={RENEW.name: self.desk.renewal})


@pytest.fixture
def office() -> Office:
    return Office(enrolment_address="localhost:1")  # where nobody answers


@pytest.mark.parametrize("network", NETWORKS)
async def test_renewing_over_a_link(office: Office, tmp_path: Path, network: str) -> None:
    key_pem = keys.generate_key()
    office.joined(wish(office.ticket(), key_pem))
    async with NETWORKS[network](Renewing(office), tmp_path) as made:
        link = await (await made.dialer("cam-1")).dial()
        enrolment = LinkEnrolment(link)
        reply = await enrolment.renew(renewal("cam-1", key_pem, 1))

        with pytest.raises(Refused) as replayed:
            await enrolment.renew(renewal("cam-1", key_pem, 1))
        with pytest.raises(Refused) as unreadable:
            await link.call(RENEW.name, b"\xff")
        with pytest.raises(TransportError):
            await enrolment.join(enrolment_pb2.JoinRequest())
        await link.close()

    assert keys.read_certificate(reply.certificate_pem).device == "cam-1"
    assert (replayed.value.code, unreadable.value.code) == ("counter-replayed", "invalid-input")


@asynccontextmanager
async def connected(network: MemoryNetwork) -> AsyncIterator[Connection]:
    async def on_up(_: Link) -> None:
        pass

    async def on_command(_: bytes) -> None:
        pass

    routes = [Route("memory", network.dialer("cam-1"))]
    rng = random.Random(1)  # noqa: S311
    connection = Connection(routes, SystemClock(), rng, on_command, on_up)
    running = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(DEADLINE):
            await connection.link()
        yield connection
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_the_agent_renews_over_its_link_while_it_has_one(
    office: Office, tmp_path: Path
) -> None:
    store, home, clock = MemoryDeviceStore(), Home(tmp_path), SystemClock()
    facts = common_pb2.DeviceFacts(arch="x86_64")
    by_hand = MemoryEnrolment(office.joined, office.renewed).dial
    joined, _ = await join(office.token(), "cam-1", facts, home.key, store, now(), by_hand)
    network = MemoryNetwork(Renewing(office).endpoint())
    async with connected(network) as connection:
        dial = enrolment_dialer(home, AgentConfig(), clock, connection)
        renewed = await renew(home.key, store, now(), dial)

        network.isolate("cam-1")
        with pytest.raises(TransportError):
            await renew(home.key, store, now(), dial)
    await network.settle()

    assert renewed.certificate_pem != joined.certificate_pem
