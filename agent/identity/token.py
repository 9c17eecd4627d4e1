"""The join token as a person carries it from the controller to the device: one line of text.

It pins the controller's CA whole and the TUF root by digest, so that the first connection is already
authenticated: nobody in between can hand out another root of trust.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.address import is_address
from agent.errors import BadToken, ExpiredToken

PREFIX: Final = "muster-join-"
MAX_CHARACTERS: Final = 8192


class Ticket(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What a join token says. Without a broker it says no more than it did before there were any.

    Attributes:
        address: host:port of the enrolment service.
        server_ca: the certificate of the CA that issued the controller's own, DER.
        root_sha256: of the TUF root metadata.
        expires: Unix seconds.
        broker: host:port of a broker's listener for machines that join; may be empty.
        broker_ca: certificates of the CAs, mostly one, that have issued the broker's own, DER.
    """

    address: str
    server_ca: bytes
    root_sha256: str
    id: str
    secret: str
    expires: int
    broker: str = ""
    broker_ca: tuple[bytes, ...] = ()

    @property
    def server_ca_pem(self) -> bytes:
        """The pinned CA, as TLS libraries want it."""
        return _pem(self.server_ca)

    @property
    def broker_ca_pem(self) -> bytes:
        """Whose certificate the broker shows; empty where there is none."""
        return b"".join(map(_pem, self.broker_ca))


def encode(ticket: Ticket) -> str:
    """The token's text."""
    packed = msgspec.json.encode(ticket)
    return PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def parse(text: str) -> Ticket:
    """What the token says. White space around and within it is forgiven: terminals wrap lines.

    Raises:
        BadToken: it is no join token; the message says what is wrong, never the secret.
    """
    joined = "".join(text.split())
    if not joined.startswith(PREFIX):
        raise BadToken(f"a join token begins with {PREFIX!r}")
    if len(joined) > MAX_CHARACTERS:
        raise BadToken(f"the token has {len(joined)} characters; {MAX_CHARACTERS} at most")
    body = joined.removeprefix(PREFIX).rstrip("=")
    try:
        packed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadToken("the token is cut off or altered: it is not base64") from error
    try:
        ticket = msgspec.json.decode(packed, type=Ticket)
    except msgspec.ValidationError as error:
        raise BadToken(f"the token lacks or misstates a field: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadToken("the token is cut off or altered: it can't be read") from error
    _check(ticket)
    return ticket


def check_unexpired(ticket: Ticket, now: datetime) -> None:
    """Returns if the token is still good by this device's clock.

    Raises:
        ExpiredToken: it is not.
    """
    if now.timestamp() >= ticket.expires:
        at = datetime.fromtimestamp(ticket.expires, UTC)
        raise ExpiredToken(f"the token expired at {at:%Y-%m-%d %H:%M:%S} UTC; it is {now:%H:%M:%S}")


def _check(ticket: Ticket) -> None:
    if not is_address(ticket.address):
        raise BadToken("the token's address is not host:port")
    digest = ticket.root_sha256
    if len(digest) != 64 or any(character not in "0123456789abcdef" for character in digest):
        raise BadToken("the token's root_sha256 is not a digest")
    if not (ticket.id and ticket.secret):
        raise BadToken("the token has no id or no secret")
    if not 0 < ticket.expires < 253_402_300_800:  # the year 10000, where datetime ends
        raise BadToken("the token's expiry is not a time")
    _check_certificate("server_ca", ticket.server_ca)
    if ticket.broker and not is_address(ticket.broker):
        raise BadToken("the token's broker is not host:port")
    if ticket.broker and not ticket.broker_ca:
        raise BadToken("the token names a broker and no broker_ca")
    for one in ticket.broker_ca:
        _check_certificate("broker_ca", one)


def _check_certificate(name: str, der: bytes) -> None:
    try:
        x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise BadToken(f"the token's {name} is not a certificate") from error


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
