from datetime import timedelta

import pytest

from agent.identity.keys import generate_key, public_key, signer
from controller.desk import PIECES, WORDS, DeviceDesk
from controller.enrolment.authority import KeyPair
from controller.enrolment.terms import Terms
from controller.errors import InvalidInput, TooOften
from controller.federated.intake.actions import Intake
from controller.fleet.device import Device
from protos.documents import Report
from protos.envelope import seal
from protos.methods import READINESS, REPLY
from protos.v1 import common_pb2, telemetry_pb2
from simulations.federated.memory_replies import MemoryReplies
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_store import MemoryStore
from tests.controller.rollout.world import START, HandClock

KEY = generate_key()
NOBODY = KeyPair(b"", b"")
TERMS = Terms(NOBODY, b"", b"", "localhost:1", "localhost:2", timedelta(days=1))


class Woken:
    """What the desk told the rollouts."""

    def __init__(self) -> None:
        self.times = 0

    def wake(self) -> None:
        self.times += 1

    async def connected(self, device: str) -> None:
        del device


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    with made.begin() as tx:
        tx.devices.put(Device("dev-1", START, public_key(KEY), "ff", START + 100))
    return made


@pytest.fixture
def desk(store: MemoryStore, woken: Woken) -> DeviceDesk:
    made = DeviceDesk(store, MemoryControllerBlobs(), HandClock(), TERMS)
    made.rollouts = woken
    return made


def report(sequence: int, counter: int) -> telemetry_pb2.Record:
    document = Report(device="dev-1", counter=counter, generation=0, reported_at=int(START))
    envelope = common_pb2.Envelope.FromString(seal(document, signer(KEY)))
    return telemetry_pb2.Record(sequence=sequence, report=envelope)


def reading(sequence: int) -> telemetry_pb2.Record:
    return telemetry_pb2.Record(sequence=sequence, resources=telemetry_pb2.Resources())


async def send(desk: DeviceDesk, *records: telemetry_pb2.Record) -> None:
    request = telemetry_pb2.UploadRequest(spool_id="spool", records=records)
    await desk.upload("dev-1", request.SerializeToString())


async def test_a_signed_report_has_rollouts_planned_anew(desk: DeviceDesk, woken: Woken) -> None:
    await send(desk, reading(1), report(2, counter=1))

    assert woken.times == 1


async def test_what_changes_no_plan_has_none_made(desk: DeviceDesk, woken: Woken) -> None:
    await send(desk, report(1, counter=1))
    woken.times = 0

    await send(desk, reading(2), reading(3))
    await send(desk, report(1, counter=1))  # stored before
    await send(desk, report(4, counter=1))  # replayed: refused

    assert woken.times == 0


async def test_facts_have_rollouts_planned_anew_when_they_changed(
    desk: DeviceDesk, woken: Woken
) -> None:
    facts = common_pb2.DeviceFacts(arch="x86_64").SerializeToString()

    await desk.facts("dev-1", facts)
    await desk.facts("dev-1", facts)

    assert woken.times == 1


def is_online(store: MemoryStore) -> bool:
    with store.read() as tx:
        known = tx.devices.get("dev-1")
    assert known is not None
    return known.connected


async def test_a_device_that_left_another_controller_is_online_when_it_is_heard_over_our_link(
    desk: DeviceDesk, store: MemoryStore
) -> None:
    theirs = DeviceDesk(store, MemoryControllerBlobs(), HandClock(), TERMS)
    desk.linked = {"dev-1"}.__contains__
    await desk.arrived("dev-1")
    await theirs.departed("dev-1")  # the link that it had before: told late
    assert not is_online(store)

    await send(desk, reading(1))

    assert is_online(store)


async def test_what_is_heard_late_of_a_device_without_a_link_does_not_make_it_online(
    desk: DeviceDesk, store: MemoryStore
) -> None:
    await desk.arrived("dev-1")
    await desk.departed("dev-1")

    await send(desk, reading(1))

    assert not is_online(store)


async def test_a_device_that_floods_is_refused_unread_until_it_has_waited(
    desk: DeviceDesk, store: MemoryStore
) -> None:
    desk.federated.intake = Intake(store, MemoryReplies())
    dispatch, clock = desk.dispatch(), desk.federated._clock
    assert isinstance(clock, HandClock)
    for most, asking in (
        (int(PIECES.burst), lambda device: dispatch.call(device, REPLY.name, b"?")),
        (int(WORDS.burst), lambda device: dispatch.publish(device, READINESS, b"\xff")),
    ):
        for _ in range(most):
            with pytest.raises(InvalidInput):
                await asking("dev-1")

        with pytest.raises(TooOften) as caught:
            await asking("dev-1")
        with pytest.raises(InvalidInput):
            await asking("dev-2")

        clock.at += caught.value.retry_after_ms / 1000
        with pytest.raises(InvalidInput):
            await asking("dev-1")
