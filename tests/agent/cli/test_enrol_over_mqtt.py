"""A machine becomes a device where only a broker gets through, and says which way it went."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.cli.machine import Agent, configure
from tests.contracts.enrolments import Office, OverMqtt, over_grpc, over_mqtt


@pytest.fixture
def office() -> Office:
    return Office(enrolment_address="localhost:1")  # where nobody answers


@pytest.fixture
async def door(office: Office, tmp_path: Path) -> AsyncIterator[OverMqtt]:
    async with over_mqtt(office, tmp_path) as door:
        yield door


async def test_where_only_the_broker_answers_a_machine_joins_over_it(
    agent: Agent, office: Office, door: OverMqtt
) -> None:
    done = await asyncio.to_thread(agent, "enrol", office.token(), "--name", "cam-7")

    assert (done.status, done.err) == (0, "")
    assert done.out == (
        "this machine is device cam-7\n"
        f"  it joined over mqtt, at {door.broker.strangers}\n"
        f"next: muster-agent --home {agent.home} run\n"
    )


async def test_a_machine_joins_over_the_transport_that_it_is_told(
    agent: Agent, office: Office, door: OverMqtt, tmp_path: Path
) -> None:
    refused = await asyncio.to_thread(agent.refused, "enrol", office.token(), "--over", "grpc")
    assert "[transport]" in refused

    async with over_grpc(office, tmp_path):
        words = ("enrol", office.token(), "--over", "mqtt")
        over_broker = await asyncio.to_thread(agent, *words, home=tmp_path / "one")
        by_itself = await asyncio.to_thread(agent, "enrol", office.token(), home=tmp_path / "other")
    assert f"it joined over mqtt, at {door.broker.strangers}" in over_broker.out
    assert f"it joined over grpc, at {office.enrolment_address}" in by_itself.out


async def test_a_token_that_names_no_broker_is_of_no_use_over_one(
    agent: Agent, office: Office
) -> None:
    refused = await asyncio.to_thread(agent.refused, "enrol", office.token(), "--over", "mqtt")

    assert "no address at which the controller is asked for a certificate over mqtt" in refused
    assert "[mqtt] enrolment_address names none" in refused


async def test_the_doctor_finds_out_that_no_transport_has_an_address(
    agent: Agent, office: Office, tmp_path: Path
) -> None:
    async with over_grpc(office, tmp_path):
        await asyncio.to_thread(agent, "enrol", office.token())
    configure(agent, '[connecting]\ntransports = ["mqtt"]\n')

    done = await asyncio.to_thread(agent, "doctor")

    assert done.status == 1
    assert "FAIL  transports: " in done.out
    assert "this device knows no address for mqtt; the controller has named no broker" in done.out


async def test_the_doctor_looks_at_the_ways_that_may_be_taken(
    agent: Agent, office: Office, door: OverMqtt
) -> None:
    await asyncio.to_thread(agent, "enrol", office.token())
    configure(agent, '[connecting]\ntransports = ["mqtt"]\n')
    both = (door.broker.devices, door.broker.strangers)

    done = await asyncio.to_thread(agent, "doctor")
    assert all(f"ok    broker: {address} answers, TLSv1.3\n" in done.out for address in both)
    assert "controller:" not in done.out

    (agent.home / "ca.pem").write_bytes(office.terms.server_ca_pem)
    configure(agent, '[connecting]\ntransports = ["mqtt"]\n[mqtt]\nca = "ca.pem"\n')
    done = await asyncio.to_thread(agent, "doctor")
    assert all(f"FAIL  broker: {address}: " in done.out for address in both)
    assert "in the broker's place" in done.out
    assert "name that as `ca` under [mqtt]" in done.out

    configure(agent, '[mqtt]\nca = "none.pem"\n')
    done = await asyncio.to_thread(agent, "doctor")
    assert "FAIL  broker: " in done.out
    assert "[mqtt] ca: none.pem: No such file" in done.out
    assert "warn  controller: localhost:1" in done.out
