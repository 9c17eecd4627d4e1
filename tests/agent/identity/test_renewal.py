"""Certificates are renewed, with the key that the device has."""

import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import StoreError, TransportError, Untrusted
from agent.identity import keys
from agent.identity.actions import device_key, renew
from agent.store.device_store import Identity
from controller.enrolment.authority import create_authority
from controller.enrolment.terms import BrokerTerms
from protos.v1 import enrolment_pb2
from simulations.memory_device_store import MemoryDeviceStore
from tests.agent.identity.enrolment import (
    NOW,
    Controller,
    answering,
    enrol,
    mode,
    move,
    open_to_all,
)

CA_PEM = create_authority("broker CA", NOW).certificate_pem
BROKER = BrokerTerms("broker:8883", "broker:8885", CA_PEM)


async def test_what_is_no_certificate_is_refused_at_a_renewal_and_the_old_one_kept(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)

    def change(reply: enrolment_pb2.JoinReply) -> None:
        reply.certificate_pem = b"nonsense"

    with pytest.raises(Untrusted):
        await renew(key_path, store, NOW, answering(controller, change).dial)
    assert store.identity.load() == identity


async def test_renewing_replaces_the_certificate_only(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    controller.now = NOW + timedelta(days=20)
    renewed = await renew(key_path, store, controller.now, controller.enrolment.dial)

    assert replace(renewed, certificate_pem=identity.certificate_pem) == identity
    assert keys.read_certificate(renewed.certificate_pem).not_after == NOW + timedelta(days=50)
    assert store.identity.load() == renewed


async def test_an_expired_certificate_renews(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    await enrol(controller, store, key_path)
    controller.now = NOW + timedelta(days=100)
    renewed = await renew(key_path, store, controller.now, controller.enrolment.dial)

    assert keys.read_certificate(renewed.certificate_pem).not_after > controller.now


async def test_a_renewal_whose_reply_was_lost_is_repeated(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    await enrol(controller, store, key_path)
    controller.enrolment.lose_replies = True
    with pytest.raises(TransportError):
        await renew(key_path, store, NOW, controller.enrolment.dial)

    controller.enrolment.lose_replies = False
    await renew(key_path, store, NOW, controller.enrolment.dial)


async def test_a_key_that_became_readable_for_others_is_closed_again(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    open_to_all(key_path)
    device_key(key_path, identity)

    assert mode(key_path) == 0o600


async def test_a_missing_key_names_its_file(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    move(key_path, key_path.with_name("elsewhere"))

    with pytest.raises(StoreError, match=r"key\.pem"):
        device_key(key_path, identity)


def broker_of(identity: Identity) -> BrokerTerms:
    return BrokerTerms(
        identity.broker_address, identity.broker_enrolment_address, identity.broker_ca_pem
    )


async def test_a_device_learns_of_the_broker_when_it_joins(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    controller.terms = replace(controller.terms, broker=BROKER)

    assert broker_of(await enrol(controller, store, key_path)) == BROKER


async def test_a_device_learns_at_a_renewal_where_everything_is_now(
    controller: Controller,
    store: MemoryDeviceStore,
    key_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "agent.identity.whereabouts")
    identity = await enrol(controller, store, key_path)
    assert broker_of(identity) == BrokerTerms("", "", b"")
    controller.terms = replace(
        controller.terms, broker=BROKER, session_address="new:1", enrolment_address="new:2"
    )

    renewed = await renew(key_path, store, NOW, controller.enrolment.dial)
    assert broker_of(renewed) == BROKER
    assert (renewed.session_address, renewed.enrolment_address) == ("new:1", "new:2")
    assert store.identity.load() == renewed
    assert "identity.moved device=cam-1 at=new:1 broker=broker:8883" in caplog.text

    controller.terms = replace(controller.terms, broker=None)
    renewed = await renew(key_path, store, NOW, controller.enrolment.dial)
    assert broker_of(renewed) == BrokerTerms("", "", b"")


@pytest.mark.parametrize(
    "broker",
    [
        replace(BROKER, address="broker"),
        replace(BROKER, enrolment_address="broker:99999"),
        replace(BROKER, ca_pem=b"nonsense"),
    ],
)
async def test_a_broker_that_is_misconfigured_costs_no_certificate(
    controller: Controller,
    store: MemoryDeviceStore,
    key_path: Path,
    broker: BrokerTerms,
    caplog: pytest.LogCaptureFixture,
) -> None:
    controller.terms = replace(controller.terms, broker=BROKER)
    identity = await enrol(controller, store, key_path)
    controller.terms = replace(controller.terms, broker=broker)
    controller.now = NOW + timedelta(days=20)

    renewed = await renew(key_path, store, NOW, controller.enrolment.dial)
    assert replace(renewed, certificate_pem=identity.certificate_pem) == identity
    assert renewed.certificate_pem != identity.certificate_pem
    assert "identity.broker-unusable" in caplog.text


async def test_an_address_that_is_none_does_not_replace_one(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    identity = await enrol(controller, store, key_path)
    controller.terms = replace(controller.terms, session_address="nowhere")

    renewed = await renew(key_path, store, NOW, controller.enrolment.dial)
    assert renewed.session_address == identity.session_address


async def test_an_older_controller_that_names_no_addresses_changes_none(
    controller: Controller, store: MemoryDeviceStore, key_path: Path
) -> None:
    controller.terms = replace(controller.terms, broker=BROKER)
    identity = await enrol(controller, store, key_path)

    def change(reply: enrolment_pb2.JoinReply) -> None:
        reply.certificate_pem = identity.certificate_pem

    assert await renew(key_path, store, NOW, answering(controller, change).dial) == identity
