import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import BadToken, ExpiredToken
from agent.identity.token import PREFIX, Ticket, check_unexpired, encode, parse
from controller.enrolment.authority import create_authority

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CA_PEM = create_authority("server CA", NOW).certificate_pem
CA_DER = x509.load_pem_x509_certificate(CA_PEM).public_bytes(serialization.Encoding.DER)
OF_NO_VERSION = CA_DER.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x4d", 1)
TICKET = Ticket(
    address="controller.example:7443",
    server_ca=CA_DER,
    root_sha256="ab" * 32,
    id="0123456789ab",
    secret="s3cret-s3cret",
    expires=int(NOW.timestamp()) + 3600,
)
NAMING_BROKER = msgspec.structs.replace(TICKET, broker="broker.example:8885", broker_ca=(CA_DER,))


def altered(**changes: object) -> str:
    fields = json.loads(msgspec.json.encode(TICKET)) | changes
    kept = {name: value for name, value in fields.items() if value is not None}
    return PREFIX + base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()


@settings(max_examples=50)
@given(
    host=st.from_regex(r"[a-z][a-z0-9.-]{0,30}", fullmatch=True),
    port=st.integers(1, 65535),
    secret=st.text(min_size=1, max_size=60),
    expires=st.integers(1, 10**10),
)
def test_what_is_encoded_is_parsed(host: str, port: int, secret: str, expires: int) -> None:
    ticket = msgspec.structs.replace(
        TICKET, address=f"{host}:{port}", secret=secret, expires=expires
    )

    assert parse(encode(ticket)) == ticket


def test_the_pinned_ca_is_the_one_that_was_put_in() -> None:
    assert parse(encode(TICKET)).server_ca_pem == CA_PEM


def test_a_token_may_name_a_broker_too() -> None:
    ticket = parse(encode(msgspec.structs.replace(NAMING_BROKER, broker_ca=(CA_DER, CA_DER))))

    assert (ticket.broker, ticket.broker_ca_pem) == ("broker.example:8885", CA_PEM + CA_PEM)


def test_a_token_without_a_broker_is_one_that_older_agents_read() -> None:
    body = encode(TICKET).removeprefix(PREFIX)
    said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))

    assert set(said) == {"address", "server_ca", "root_sha256", "id", "secret", "expires"}
    assert parse(encode(TICKET)).broker_ca_pem == b""


def test_white_space_from_a_terminal_is_forgiven() -> None:
    text = encode(TICKET)

    assert parse(f"  {text[:70]}\n {text[70:]}\n") == TICKET


def test_the_characters_are_safe_in_a_shell_and_a_url() -> None:
    assert all(character.isalnum() or character in "-_" for character in encode(TICKET))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "begins with"),
        ("eyJhZGRyZXNzIjo", "begins with"),
        (PREFIX, "can't be read"),
        (PREFIX + "!!!", "not base64"),
        (PREFIX + "A" * 9000, "characters"),
        (PREFIX + "AAAA", "can't be read"),
        (encode(TICKET)[:-40], "can't be read"),
        (altered(address=None), "address"),
        (altered(secret=None), "secret"),
        (altered(expires="soon"), "expires"),
        (altered(extra=1), "extra"),
        (altered(address="controller.example"), "host:port"),
        (altered(address="controller.example:99999"), "host:port"),
        (altered(root_sha256="AB" * 32), "root_sha256"),
        (altered(root_sha256="ab"), "root_sha256"),
        (altered(id=""), "no id"),
        (altered(expires=0), "expiry"),
        (altered(expires=10**15), "expiry"),
        (altered(server_ca=base64.b64encode(b"no certificate").decode()), "server_ca"),
        (altered(broker="broker.example"), "broker is not host:port"),
        (altered(broker="broker.example:8885"), "no broker_ca"),
        (altered(broker="b:1", broker_ca=["AAAA"]), "broker_ca is not a certificate"),
        (altered(broker="b:1", broker_ca="AAAA"), "broker_ca"),
        (altered(server_ca=base64.b64encode(OF_NO_VERSION).decode()), "server_ca"),
    ],
)
def test_what_is_wrong_is_named_and_the_secret_is_not(text: str, wrong: str) -> None:
    with pytest.raises(BadToken, match=wrong) as caught:
        parse(text)

    assert TICKET.secret not in str(caught.value)
    assert "muster token create" in caught.value.remedy


@settings(max_examples=100)
@given(position=st.integers(0, len(encode(TICKET)) - 1), character=st.characters())
def test_a_token_with_a_wrong_character_never_crashes(position: int, character: str) -> None:
    text = encode(TICKET)
    with contextlib.suppress(BadToken):
        parse(text[:position] + character + text[position + 1 :])


def test_a_token_is_good_until_its_expiry_and_not_at_it() -> None:
    end = datetime.fromtimestamp(TICKET.expires, UTC)
    check_unexpired(TICKET, end - timedelta(seconds=1))

    with pytest.raises(ExpiredToken, match="2026-03-01 13:00:00"):
        check_unexpired(TICKET, end)
