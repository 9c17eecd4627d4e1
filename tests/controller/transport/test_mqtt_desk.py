"""What a controller makes of births, deaths and floods, through a real Mosquitto."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.identity import keys
from agent.transport.mqtt.controllers import Controller
from agent.transport.mqtt.letters import Letters
from controller.transport.dispatch import Dispatch
from controller.transport.mqtt.desk import CALLS, LINES, MqttDesk
from controller.transport.mqtt.senders import Senders
from controller.transport.mqtt.voice import ControllerSeal, Voice
from controller.transport.sessions import Sessions
from protos.methods import FACTS, METADATA
from protos.mqtt import topics
from protos.mqtt.broker import Broker, Habits
from protos.mqtt.connection import Incoming, connected
from protos.mqtt.topics import Address, Leaf
from protos.v1 import mqtt_pb2
from tests.brokers import mosquitto
from tests.contracts.centre import DEADLINE, Centre
from tests.contracts.networks import Authorities, OverMqtt, bridge_to


@asynccontextmanager
async def served(endpoint: Dispatch, tmp_path: Path) -> AsyncIterator[OverMqtt]:
    """Devices, and one controller that asks the endpoint."""
    authorities = Authorities.new()
    own = ControllerSeal(authorities.controller, X25519PrivateKey.generate())
    async with mosquitto(tmp_path) as broker:
        sessions = Sessions(endpoint)
        bridge = bridge_to(broker, endpoint, sessions, own)
        serving = asyncio.create_task(bridge.run())
        async with asyncio.timeout(DEADLINE):
            await bridge.up()
        network = OverMqtt(sessions, broker, authorities.server.certificate_pem)
        try:
            yield network
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            await sessions.settle()
            for cable in network.cables.values():
                await cable.remove()


async def test_a_device_that_gave_up_before_it_was_admitted_is_not_there(tmp_path: Path) -> None:
    centre, admission = Centre(), asyncio.Event()
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def slow(device: str, serial: str) -> None:
        assert serial
        asked.put_nowait(device)
        await admission.wait()

    async with served(replace(centre.endpoint(), admission=slow), tmp_path) as network:
        dialling = asyncio.create_task((await network.dialer("cam-1")).dial())
        assert await asked.get() == "cam-1"
        dialling.cancel()  # it says goodbye, which reaches the controller before the other's birth
        await asyncio.wait([dialling])
        later = asyncio.create_task((await network.dialer("cam-2")).dial())
        assert await asked.get() == "cam-2"
        admission.set()
        link = await later

        assert network.courier.connected() == {"cam-2"}
        assert centre.presence == [("up", "cam-2")]
        await link.close()


async def test_what_a_device_announces_is_taken_in_order_however_long_its_admission_takes(
    tmp_path: Path,
) -> None:
    centre, admission = Centre(), asyncio.Event()
    centre.gate.set()
    admitted = 0

    async def uneven(device: str, serial: str) -> None:
        nonlocal admitted
        assert device
        assert serial
        admitted += 1
        if admitted == 2:  # of the first announcement
            await admission.wait()

    async with served(replace(centre.endpoint(), admission=uneven), tmp_path) as network:
        link = await (await network.dialer("cam-1")).dial()
        saying = [asyncio.create_task(link.publish(FACTS, data)) for data in (b"1", b"2")]
        last = asyncio.create_task(link.call(METADATA.name, b"x"))
        await last  # both have come before it
        admission.set()
        await asyncio.gather(*saying)

        assert [payload for _, _, payload in centre.heard] == [b"1", b"2"]
        await link.close()


@dataclass
class Hearing:
    """A desk that nobody serves, and a device that it does not know."""

    desk: MqttDesk
    letters: Letters
    to: Controller

    def hear(self, message: mqtt_pb2.DeviceMessage) -> None:
        _, data = self.letters.write(message, self.to)
        topic = topics.call(self.letters.device)
        self.desk.receive(Incoming(topic, data), Address(Leaf.CALL, self.letters.device))


@asynccontextmanager
async def hearing(tmp_path: Path) -> AsyncIterator[Hearing]:
    authorities, endpoint = Authorities.new(), Centre().endpoint()
    own = ControllerSeal(authorities.controller, X25519PrivateKey.generate())
    async with mosquitto(tmp_path) as broker:
        certificates = broker.certificates
        access = Broker(
            broker.controllers,
            certificates.broker_authority.certificate_pem,
            certificates.controller.certificate_pem,
            certificates.controller.key_pem,
        )
        device_ca_pem = certificates.device_authority.certificate_pem
        senders = Senders(device_ca_pem, lambda: datetime.now(UTC))
        shown = certificates.device("cam-1")
        letters = Letters("cam-1", 1, keys.signer(shown.key_pem), shown.certificate_pem)
        key = keys.verifier(keys.public_key(own.server.key_pem))
        to = Controller("one", key, own.sealing_key.public_key().public_bytes_raw())
        async with connected(access, "controller", lambda _: None, Habits()) as client:
            desk = MqttDesk(endpoint, Sessions(endpoint), senders, own, Voice("one", own, client))
            yield Hearing(desk, letters, to)
            await desk.close()


async def test_who_asks_without_end_is_answered_only_so_often_at_once(tmp_path: Path) -> None:
    request = mqtt_pb2.DeviceMessage(request=mqtt_pb2.Request(method=METADATA.name))
    async with hearing(tmp_path) as it:
        before = len(asyncio.all_tasks())

        for _ in range(10 * CALLS):  # it is asked who it is, each time
            it.hear(request)

        assert len(asyncio.all_tasks()) - before == CALLS


async def test_who_comes_after_the_end_is_not_heard(tmp_path: Path) -> None:
    request = mqtt_pb2.DeviceMessage(request=mqtt_pb2.Request(method=METADATA.name))
    async with hearing(tmp_path) as it:
        before = len(asyncio.all_tasks())
        await it.desk.close()

        it.hear(request)

        assert len(asyncio.all_tasks()) == before


async def test_what_is_dropped_without_end_fills_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with hearing(tmp_path) as it:
        for _ in range(10 * int(LINES.burst)):
            it.desk.receive(Incoming(topics.call("cam-1"), b"noise"), Address(Leaf.CALL, "cam-1"))

    lines = [line for line in caplog.records if "message-dropped" in line.getMessage()]
    assert LINES.burst <= len(lines) < 2 * LINES.burst
