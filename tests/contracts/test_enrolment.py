"""The contract of ``Enrolment``, over every transport."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import Refused, TransportError, WrongController
from agent.identity import keys
from agent.identity.token import Ticket
from agent.transport.link import Enrolment
from controller.enrolment.authority import create_authority
from tests.contracts.enrolments import DOORS, Door, Office, now, renewal, wish

OVER_A_WIRE = sorted(set(DOORS) - {"memory"})


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture(params=DOORS)
async def door(
    request: pytest.FixtureRequest, office: Office, tmp_path: Path
) -> AsyncIterator[Door]:
    async with DOORS[request.param](office, tmp_path) as door:
        yield door


@pytest.fixture
def enrolment(door: Door, office: Office) -> Enrolment:
    return door.enrolment(office.terms.server_ca_pem)


@pytest.fixture
def key_pem() -> bytes:
    return keys.generate_key()


async def refusal(asked: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as caught:
        await asked
    assert caught.value.detail
    assert caught.value.remedy
    return caught.value


async def test_a_machine_joins(enrolment: Enrolment, office: Office, key_pem: bytes) -> None:
    reply = await enrolment.join(wish(office.ticket(), key_pem))

    assert reply.device_id == "cam-1"
    assert reply.root_metadata == b"root"
    assert reply.session_address == office.terms.session_address
    told = office.terms.broker
    assert reply.broker.address == (told.address if told else "")
    certificate = keys.read_certificate(reply.certificate_pem)
    assert (certificate.device, certificate.public_key_pem) == ("cam-1", keys.public_key(key_pem))


async def test_many_machines_join_at_once_and_each_gets_its_own_answer(
    enrolment: Enrolment, office: Office
) -> None:
    names = [f"cam-{number}" for number in range(12)]
    wishes = [wish(office.ticket(), keys.generate_key(), name) for name in names]

    replies = await asyncio.gather(*(enrolment.join(one) for one in wishes))

    assert [one.device_id for one in replies] == names
    assert sorted(office.devices()) == sorted(names)


async def test_a_join_whose_reply_was_lost_is_asked_again_as_the_same_device(
    enrolment: Enrolment, office: Office, key_pem: bytes
) -> None:
    ticket = office.ticket()
    office.lose_replies = True
    with pytest.raises(TransportError):
        await enrolment.join(wish(ticket, key_pem))
    assert office.devices() == ["cam-1"]

    office.lose_replies = False
    assert (await enrolment.join(wish(ticket, key_pem))).device_id == "cam-1"
    assert office.devices() == ["cam-1"]


async def test_a_used_token_is_refused_with_who_has_used_it(
    enrolment: Enrolment, office: Office, key_pem: bytes
) -> None:
    ticket = office.ticket()
    await enrolment.join(wish(ticket, key_pem))

    refused = await refusal(enrolment.join(wish(ticket, keys.generate_key(), "thief")))
    assert refused.code == "token-used"
    assert "by 'cam-1'" in refused.detail
    assert office.devices() == ["cam-1"]


async def test_an_expired_token_is_refused(
    enrolment: Enrolment, office: Office, key_pem: bytes
) -> None:
    ticket = office.ticket()
    office.ahead = timedelta(hours=2)

    assert (await refusal(enrolment.join(wish(ticket, key_pem)))).code == "token-expired"
    assert office.devices() == []


@pytest.mark.parametrize("secret", ["guessed", ""])
async def test_an_unknown_token_is_refused(
    enrolment: Enrolment, office: Office, key_pem: bytes, secret: str
) -> None:
    request = wish(office.ticket(), key_pem)
    request.token_secret = secret

    assert (await refusal(enrolment.join(request))).code == "token-unknown"
    assert office.devices() == []


async def test_a_device_renews(enrolment: Enrolment, office: Office, key_pem: bytes) -> None:
    joined = await enrolment.join(wish(office.ticket(), key_pem))
    office.ahead = timedelta(days=20)

    reply = await enrolment.renew(renewal("cam-1", key_pem, 1))

    earlier, later = map(keys.read_certificate, (joined.certificate_pem, reply.certificate_pem))
    assert later.not_after - earlier.not_after > timedelta(days=19)
    assert later.public_key_pem == keys.public_key(key_pem)
    assert reply.session_address == office.terms.session_address
    assert reply.enrolment_address == office.terms.enrolment_address


async def test_a_renewal_is_done_once(enrolment: Enrolment, office: Office, key_pem: bytes) -> None:
    await enrolment.join(wish(office.ticket(), key_pem))
    request = renewal("cam-1", key_pem, 5)
    await enrolment.renew(request)

    for late in (request, renewal("cam-1", key_pem, 4)):
        assert (await refusal(enrolment.renew(late))).code == "counter-replayed"
    await enrolment.renew(renewal("cam-1", key_pem, 6))


async def test_who_has_not_the_key_does_not_renew(
    enrolment: Enrolment, office: Office, key_pem: bytes
) -> None:
    await enrolment.join(wish(office.ticket(), key_pem))

    forged = renewal("cam-1", keys.generate_key(), 1)
    assert (await refusal(enrolment.renew(forged))).code == "bad-signature"
    unknown = renewal("cam-2", key_pem, 1)
    assert (await refusal(enrolment.renew(unknown))).code == "device-unknown"


async def test_a_revoked_device_neither_renews_nor_joins_again(
    enrolment: Enrolment, office: Office, key_pem: bytes
) -> None:
    ticket = office.ticket()
    await enrolment.join(wish(ticket, key_pem))
    office.revoke("cam-1")

    assert (await refusal(enrolment.renew(renewal("cam-1", key_pem, 1)))).code == "device-revoked"
    assert (await refusal(enrolment.join(wish(ticket, key_pem)))).code == "device-revoked"


async def test_an_expired_certificate_is_renewed_within_the_grace_and_not_after(
    enrolment: Enrolment, office: Office, key_pem: bytes
) -> None:
    await enrolment.join(wish(office.ticket(), key_pem))
    office.ahead = timedelta(days=100)
    reply = await enrolment.renew(renewal("cam-1", key_pem, 1))
    assert keys.read_certificate(reply.certificate_pem).not_after > now() + office.ahead

    office.ahead = timedelta(days=100 + 30 + 91)
    lapsed = await refusal(enrolment.renew(renewal("cam-1", key_pem, 2)))
    assert lapsed.code == "certificate-lapsed"


async def test_a_controller_that_fails_is_no_refusal(
    enrolment: Enrolment, office: Office, key_pem: bytes
) -> None:
    """Trying again may help, and what went wrong inside is told to nobody."""
    office.lose_replies = True
    with pytest.raises(TransportError) as caught:
        await enrolment.join(wish(office.ticket(), key_pem))

    assert "on fire" not in str(caught.value)


async def test_nobody_there_is_a_transport_error(
    enrolment: Enrolment, door: Door, office: Office, key_pem: bytes
) -> None:
    ticket: Ticket = office.ticket()
    await door.close()

    with pytest.raises(TransportError):
        await enrolment.join(wish(ticket, key_pem))
    with pytest.raises(TransportError):
        await enrolment.renew(renewal("cam-1", key_pem, 1))


@pytest.mark.parametrize("door", OVER_A_WIRE, indirect=True)
async def test_a_controller_of_another_ca_is_told_nothing(
    door: Door, office: Office, key_pem: bytes
) -> None:
    stranger = door.enrolment(create_authority("another", now()).certificate_pem)

    answers = await asyncio.gather(
        stranger.join(wish(office.ticket(), key_pem)),
        stranger.renew(renewal("cam-1", key_pem, 1)),
        return_exceptions=True,
    )

    assert [type(one) for one in answers] == [WrongController] * 2
    assert office.devices() == []
