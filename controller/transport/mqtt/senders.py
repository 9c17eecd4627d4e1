"""Who says something over a broker: devices whose certificate and signature hold."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.identity.issued import issued
from agent.identity.keys import verifier
from protos.errors import DocumentError
from protos.keys import Key
from protos.mqtt.replay_window import ReplayWindow
from protos.mqtt.sealing import Claim
from protos.v1 import mqtt_pb2

MOST: Final = 200_000
"""Devices that are remembered; of the others the certificate is asked for again."""

Now = Callable[[], datetime]


class CertificateWanted(Exception):
    """The device is not known yet, and has shown no certificate."""


@dataclass(slots=True)
class Sender:
    """A device that has proven who it is.

    Attributes:
        session: the highest in which it said something.
        seen: which numbers of that session came already.
        gone: the session whose death was told last.
    """

    device: str
    serial: str
    key: Key
    expires: datetime
    certificate: bytes
    session: int = 0
    seen: ReplayWindow = field(default_factory=ReplayWindow)
    gone: int = 0


class Senders:
    """Takes each message of each device once, and none of a session that is over."""

    def __init__(self, device_ca_pem: bytes, now: Now) -> None:
        self._authority = x509.load_pem_x509_certificate(device_ca_pem)
        self._now = now
        self._known: OrderedDict[str, Sender] = OrderedDict()

    def take(self, claimed: Claim[mqtt_pb2.DeviceMessage], topic_device: str) -> Sender:
        """Who says it, once it is known that they do, and for the first time.

        Raises:
            CertificateWanted: it may be asked again with a certificate.
            DocumentError: the broker, or somebody else, has made it up, or brings it again.
        """
        message = claimed.message
        if message.device != topic_device:
            raise DocumentError("not-for-us", f"of {message.device[:64]!r} on another's topic")
        sender = self._sender(claimed)
        if message.session < sender.session:
            raise DocumentError("replayed", f"of session {message.session}, which is over")
        # What is refused changes nothing: not the certificate either that the device goes by.
        seen = sender.seen if message.session == sender.session else ReplayWindow()
        if not seen.take(message.number):
            raise DocumentError("replayed", f"number {message.number} has come before")
        sender.session, sender.seen = message.session, seen
        self._keep(sender)
        return sender

    def known(self, device: str) -> Sender | None:
        """The device, if it has proven who it is."""
        return self._known.get(device)

    def _sender(self, claimed: Claim[mqtt_pb2.DeviceMessage]) -> Sender:
        """Who has signed it, as known before or as the certificate says that it shows."""
        message = claimed.message
        sender = self._known.get(message.device)
        shown = message.certificate
        if sender is None or (shown and shown != sender.certificate):
            if not shown:
                raise CertificateWanted
            fresh = self._verified(shown, message.device)
            claimed.check(fresh.key)
            if sender is not None:  # renewed: the same device goes on
                fresh.session, fresh.seen = sender.session, sender.seen
                fresh.gone = sender.gone
            sender = fresh
        else:
            claimed.check(sender.key)
        if sender.expires < self._now():
            raise DocumentError("bad-signature", "the device's certificate has expired")
        return sender

    def _keep(self, sender: Sender) -> None:
        self._known[sender.device] = sender
        self._known.move_to_end(sender.device)
        while len(self._known) > MOST:
            self._known.popitem(last=False)

    def _verified(self, der: bytes, device: str) -> Sender:
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        found = issued(der, self._authority, purpose, self._now(), "devices")
        if found.device != device:
            raise DocumentError("bad-signature", "the certificate is another's")
        key = verifier(found.public_key_pem)
        return Sender(device, found.serial, key, found.not_after, der)
