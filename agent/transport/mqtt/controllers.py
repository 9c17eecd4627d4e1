"""Which controllers are at the broker, as far as they can prove it."""

import random
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.identity.issued import issued
from agent.identity.keys import verifier
from protos.errors import DocumentError
from protos.keys import Key
from protos.mqtt.sealing import claim
from protos.v1 import mqtt_pb2

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Controller:
    """One that is there.

    Attributes:
        id: made anew whenever it connects to the broker.
        key: what its answers are signed with.
        sealing_key: X25519: what messages to controllers are sealed with.
    """

    id: str
    key: Key
    sealing_key: bytes


class Controllers:
    """Those whose state stands at the broker, and was signed under the CA that we pin."""

    def __init__(self, server_ca_pem: bytes, now: Now) -> None:
        self._authority = x509.load_pem_x509_certificate(server_ca_pem)
        self._now = now
        self._there: dict[str, Controller] = {}
        self._keys: dict[bytes, Key] = {}  # of certificates that were verified, by DER

    def take(self, id_: str, state: bytes) -> None:
        """Notes a state that stands under that id; an empty one says that the controller has gone.

        Raises:
            DocumentError: it proves nothing; nothing is noted.
        """
        if not state:
            self._there.pop(id_, None)
            return
        claimed = claim(state, mqtt_pb2.ControllerState)
        key = self._keys.get(claimed.message.certificate)
        if key is None:
            key = self._verified(claimed.message.certificate)
        found = claimed.check(key)
        if found.controller != id_:
            raise DocumentError("wrong-type", "the state of another controller")
        self._keys = {found.certificate: key, **self._keys}
        self._there[id_] = Controller(id_, key, found.sealing_key)

    def get(self, id_: str) -> Controller | None:
        """The controller of that id, if it is there."""
        return self._there.get(id_)

    def pick(self, rng: random.Random, silent: AbstractSet[str] = frozenset()) -> Controller | None:
        """Any of those that are there, but for those that are known not to answer."""
        answering = [one for id_, one in self._there.items() if id_ not in silent]
        return rng.choice(answering) if answering else None

    def _verified(self, der: bytes) -> Key:
        """The key of a certificate that the pinned CA has issued to a controller.

        Whatever that CA issues is a controller's: devices and brokers have CAs of their own.
        """
        purpose = ExtendedKeyUsageOID.SERVER_AUTH
        found = issued(der, self._authority, purpose, self._now(), "controller")
        return verifier(found.public_key_pem)
