"""Joining and renewing through an MQTT broker, which learns nothing of either and can forge neither.

What a machine asks is sealed to the controllers; what they answer is signed by them, and sealed to a
key that was made for this one question.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from datetime import datetime
from random import SystemRandom
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import DecodeError

from agent.errors import AgentError, Refused, TransportError, WrongController
from agent.transport.mqtt.controllers import Controller, Controllers
from protos.errors import BrokerError, DocumentError
from protos.mqtt import topics
from protos.mqtt.broker import Broker, Habits
from protos.mqtt.connection import BrokerClient, Incoming, connected
from protos.mqtt.sealing import ENROLMENT, claim, seal, to_device, unseal
from protos.mqtt.topics import Leaf
from protos.v1 import enrolment_pb2, mqtt_pb2

ENQUIRY_SECONDS: Final = 20.0
IMPOSTOR_SECONDS: Final = 2.0
"""For so long ours is waited for beside controllers of another CA."""
CLIENT_BYTES: Final = 16
"""Of the name under which we ask: who could guess it, could hear the sealed answer, and ask in its name."""
NONCE_BYTES: Final = 16

log = logging.getLogger(__name__)


class MqttEnrolment:
    """See ``Enrolment``. Each question is a connection of its own."""

    def __init__(
        self,
        broker: Broker,
        server_ca_pem: bytes,
        now: Callable[[], datetime],
        timeout: float = ENQUIRY_SECONDS,
    ) -> None:
        """``broker`` is its listener for strangers; ``server_ca_pem`` the pinned CA of controllers."""
        self._broker = broker
        self._server_ca_pem = server_ca_pem
        self._now = now
        self._timeout = timeout

    async def join(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        """An identity for a join token."""
        data = await self._ask(mqtt_pb2.Enquiry(join=request.SerializeToString()))
        try:
            return enrolment_pb2.JoinReply.FromString(data)
        except DecodeError as error:
            raise TransportError("the controller sent what can't be read") from error

    async def renew(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        """A new certificate."""
        data = await self._ask(mqtt_pb2.Enquiry(renew=request.SerializeToString()))
        try:
            return enrolment_pb2.RenewReply.FromString(data)
        except DecodeError as error:
            raise TransportError("the controller sent what can't be read") from error

    async def _ask(self, enquiry: mqtt_pb2.Enquiry) -> bytes:
        talk = _Talk(enquiry, Controllers(self._server_ca_pem, self._now))
        try:
            async with (
                asyncio.timeout(self._timeout),
                connected(self._broker, talk.client, talk.receive, Habits()) as client,
            ):
                return _body(await _unless_it_ends(client, talk))
        except BrokerError as error:
            raise TransportError(f"the broker: {error}") from error
        except DocumentError as error:
            raise TransportError(f"the controller can't be written to: {error.detail}") from error
        except TimeoutError as error:
            raise talk.silence() from error


class _Talk:
    """One question, and what comes to it from the broker."""

    def __init__(self, enquiry: mqtt_pb2.Enquiry, controllers: Controllers) -> None:
        self.client = secrets.token_hex(CLIENT_BYTES)
        self._key = X25519PrivateKey.generate()
        self._enquiry = mqtt_pb2.Enquiry(
            answer_key=self._key.public_key().public_bytes_raw(),
            nonce=secrets.token_bytes(NONCE_BYTES),
        )
        self._enquiry.MergeFrom(enquiry)
        self._controllers = controllers
        self._came = asyncio.Event()
        self._answer: asyncio.Future[mqtt_pb2.EnquiryAnswer] = (
            asyncio.get_running_loop().create_future()
        )
        self._asked = False
        self._impostor = ""

    async def ask(self, client: BrokerClient) -> mqtt_pb2.EnquiryAnswer:
        """The answer of any controller that is there."""
        await client.subscribe([topics.STATES, topics.answer(self.client)])
        controller = await self._controller()
        data = seal(self._enquiry.SerializeToString(), controller.sealing_key, ENROLMENT)
        await client.publish(topics.ask(self.client), data, expiry=int(ENQUIRY_SECONDS))
        self._asked = True
        return await self._answer

    def receive(self, incoming: Incoming) -> None:
        """Takes what the broker brings; what proves nothing is dropped."""
        address = topics.address(incoming.topic)
        leaf = address.leaf if address else None
        try:
            if address is not None and leaf is Leaf.STATE:
                self._controllers.take(address.whose, incoming.payload)
                self._came.set()
            elif leaf is Leaf.ANSWER:
                self._take(incoming.payload)
        except DocumentError as error:
            if leaf is Leaf.STATE and not self._impostor:
                self._impostor = error.detail
                self._came.set()
            log.info("enrolment.message-dropped topic=%s code=%s", incoming.topic, error.code)

    def silence(self) -> AgentError:
        """Why there was no answer."""
        if self._asked:
            return TransportError("the controller at the broker did not answer in time")
        if self._impostor:
            return WrongController(f"no controller at the broker can be believed: {self._impostor}")
        return TransportError("no controller is at the broker")

    async def _controller(self) -> Controller:
        while True:
            found = self._controllers.pick(SystemRandom())
            if found is not None:
                return found
            self._came.clear()
            try:
                async with asyncio.timeout(IMPOSTOR_SECONDS if self._impostor else None):
                    await self._came.wait()
            except TimeoutError as error:
                raise self.silence() from error

    def _take(self, payload: bytes) -> None:
        plain = unseal(payload, self._key, to_device(""))
        claimed = claim(plain, mqtt_pb2.EnquiryAnswer)
        controller = self._controllers.get(claimed.message.controller)
        if controller is None:
            raise DocumentError("bad-signature", "from a controller that is not there")
        found = claimed.check(controller.key)
        if found.nonce != self._enquiry.nonce:
            raise DocumentError("replayed", "the answer to another question")
        if not self._answer.done():
            self._answer.set_result(found)


async def _unless_it_ends(client: BrokerClient, talk: _Talk) -> mqtt_pb2.EnquiryAnswer:
    """The answer.

    Raises:
        BrokerError: the connection has ended before it came.
    """
    answer = asyncio.create_task(talk.ask(client))
    end = asyncio.create_task(client.ended())
    try:
        await asyncio.wait((answer, end), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise end.result()
    finally:
        for one in (answer, end):
            one.cancel()
        await asyncio.wait((answer, end))
        if not answer.cancelled():
            answer.exception()  # if it failed just now, too, that is no news


def _body(answer: mqtt_pb2.EnquiryAnswer) -> bytes:
    match answer.WhichOneof("kind"):
        case "body":
            return answer.body
        case "refused":
            told = answer.refused
            raise Refused(told.code, told.detail, told.remedy)
        case "failed":
            raise TransportError(answer.failed[:500])
        case _:
            raise TransportError("the controller sent what can't be read")
