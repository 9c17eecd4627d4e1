"""What one controller says through one connection to a broker: signed, and sealed to who it is for."""

import logging
import math
import time
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import Message

from agent.identity import keys
from controller.enrolment.authority import KeyPair
from protos.errors import BrokerError, DocumentError
from protos.keys import Signer
from protos.mqtt import topics
from protos.mqtt.connection import BrokerClient
from protos.mqtt.sealing import seal, sign, to_device
from protos.mqtt.secret_names import secret_name
from protos.v1 import command_pb2, mqtt_pb2

ANSWER_SECONDS: Final = 120
"""An answer that has not been delivered by then is awaited by nobody."""

COMMAND_SECONDS: Final = 3600
"""So long a command waits for a device that sleeps."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ControllerSeal:
    """What a controller is known by at a broker.

    Attributes:
        server: the certificate that devices know from gRPC too, and its key, which signs.
        sealing_key: opens what devices say; the same for all controllers of a fleet.
    """

    server: KeyPair
    sealing_key: X25519PrivateKey

    def signer(self) -> Signer:
        """Signs with the server certificate's key."""
        return keys.signer(self.server.key_pem)

    def group(self) -> str:
        """In which all controllers with this sealing key share what devices ask."""
        pem = self.sealing_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return secret_name(pem, "group")

    def state(self, controller: str) -> bytes:
        """The signed state of a controller of that id."""
        certificate = x509.load_pem_x509_certificate(self.server.certificate_pem)
        message = mqtt_pb2.ControllerState(
            controller=controller,
            since_ms=int(1000 * time.time()),
            sealing_key=self.sealing_key.public_key().public_bytes_raw(),
            certificate=certificate.public_bytes(serialization.Encoding.DER),
        )
        return sign(message, self.signer())


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears an answer: a device in a session, and what its message was."""

    device: str
    session: int
    answer_key: bytes
    number: int = 0
    correlation: bytes = b""


class Voice:
    """Never raises: what can't be said is noted, and who waits asks again."""

    def __init__(self, controller: str, own: ControllerSeal, client: BrokerClient) -> None:
        self.controller = controller
        self._signer = own.signer()
        self._client = client

    async def answer(self, to: Listener, message: mqtt_pb2.ControllerMessage) -> None:
        """Answers a message of the device."""
        message.answers = to.number
        await self._say(to, message, ANSWER_SECONDS)

    async def command(self, to: Listener, message: mqtt_pb2.ControllerMessage, number: int) -> None:
        """Says what answers nothing."""
        message.number = number
        await self._say(to, message, useful_seconds(message.command))

    async def answer_stranger(
        self, client: str, answer_key: bytes, message: mqtt_pb2.EnquiryAnswer
    ) -> None:
        """Answers a machine that has no good certificate."""
        topic = topics.answer(client)
        await self._publish(topic, message, answer_key, "", ANSWER_SECONDS, b"")

    async def _say(self, to: Listener, message: mqtt_pb2.ControllerMessage, expiry: int) -> None:
        message.controller, message.device, message.session = (
            self.controller,
            to.device,
            to.session,
        )
        topic = topics.down(to.device)
        await self._publish(topic, message, to.answer_key, to.device, expiry, to.correlation)

    async def _publish(
        self,
        topic: str,
        message: Message,
        key: bytes,
        device: str,
        expiry: int,
        correlation: bytes,
    ) -> None:
        try:
            data = seal(sign(message, self._signer), key, to_device(device))
            await self._client.publish(topic, data, expiry=expiry, correlation=correlation)
        except DocumentError as error:
            log.info("bridge.unsayable topic=%s code=%s: %s", topic, error.code, error.detail)
        except BrokerError as error:
            log.debug("bridge.unsaid topic=%s: %s", topic, error)


def useful_seconds(command: command_pb2.Command) -> int:
    """For how long the broker keeps a command for a device that sleeps.

    A federated task has its own time; a device that hears of it later would work in vain.
    """
    if not command.federated.HasField("task"):
        return COMMAND_SECONDS
    left = math.ceil(command.federated.task.remaining_ms / 1000)
    return min(max(left, 1), COMMAND_SECONDS)
