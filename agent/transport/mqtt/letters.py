"""What a device says to controllers over a broker, and how it reads what they say."""

import itertools

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.transport.mqtt.controllers import Controller, Controllers
from agent.transport.mqtt.memory import Memory
from protos.errors import DocumentError
from protos.keys import Signer
from protos.mqtt.sealing import UP, claim, seal, sign, to_device, unseal
from protos.v1 import mqtt_pb2


class Letters:
    """Of one session of one device. What is written has numbers from 1 on."""

    def __init__(
        self,
        device: str,
        session: int,
        signer: Signer,
        certificate_pem: bytes,
        memory: Memory | None = None,
    ) -> None:
        """``memory`` is of the device's earlier links; without, there was none."""
        self.device = device
        self.session = session
        self._signer = signer
        self._certificate = x509.load_pem_x509_certificate(certificate_pem).public_bytes(
            serialization.Encoding.DER
        )
        self._numbers = itertools.count(1)
        self._memory = memory or Memory()
        self._memory.begin(session)
        self._public = self._memory.key.public_key().public_bytes_raw()

    def will(self) -> bytes:
        """The death that the broker tells for us: signed, and not sealed, for nobody is there yet."""
        return sign(self._upstream(mqtt_pb2.DeviceMessage(death=mqtt_pb2.Death())), self._signer)

    def write(
        self,
        message: mqtt_pb2.DeviceMessage,
        to: Controller,
        *,
        addressed: bool = False,
        introduced: bool = False,
    ) -> tuple[int, bytes]:
        """The message's number, and the message as it goes out.

        Args:
            message: with its kind set.
            to: whose key it is sealed with: any controller can read it.
            addressed: it is for that controller alone.
            introduced: with our certificate.
        """
        full = self._upstream(message)
        full.number = next(self._numbers)
        full.answer_key = self._public
        if addressed:
            full.controller = to.id
        if introduced:
            full.certificate = self._certificate
        return full.number, seal(sign(full, self._signer), to.sealing_key, UP)

    def read(self, data: bytes, controllers: Controllers) -> mqtt_pb2.ControllerMessage:
        """What a controller says to us in this session, or has commanded in an earlier one.

        Raises:
            DocumentError: it is not for us, not from a controller that is there, or came before.
        """
        plain = unseal(data, self._memory.key, to_device(self.device))
        claimed = claim(plain, mqtt_pb2.ControllerMessage)
        told = claimed.message
        slept = told.session < self.session and told.HasField("command")  # we did, when it was sent
        controller = controllers.get(told.controller)
        key = controller.key if controller is not None else None
        if key is None and slept:
            key = self._memory.key_of(told.controller)
        if key is None:
            raise DocumentError("bad-signature", "from a controller that is not there")
        found = claimed.check(key)
        if found.device != self.device or not (slept or found.session == self.session):
            raise DocumentError("not-for-us", "of another session")
        if not found.answers and not self._memory.take(found.session, found.number):
            raise DocumentError("replayed", f"number {found.number} has come before")
        self._memory.meet(found.controller, key)
        return found

    def _upstream(self, message: mqtt_pb2.DeviceMessage) -> mqtt_pb2.DeviceMessage:
        full = mqtt_pb2.DeviceMessage()
        full.CopyFrom(message)
        full.device, full.session = self.device, self.session
        return full
