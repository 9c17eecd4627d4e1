"""Machines without a good certificate that join or renew through a broker.

Anybody can write here, under any name: what comes is bounded before it is opened, and opened before it
is believed. There is no address by which failures could be counted, so they are counted together: who
floods this door may shut it for others for a while, and keeps the controller from nothing else.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from controller.errors import ControllerError, InvalidInput
from controller.transport.courier import Join, Renew
from controller.transport.device_tasks import DeviceTasks
from controller.transport.dispatch import problem
from controller.transport.grpc.enrolment_server import REQUEST_BYTES
from controller.transport.mqtt.voice import ControllerSeal, Voice
from controller.transport.token_bucket import Rate, full, level, take
from protos.errors import DocumentError
from protos.limits import KIB
from protos.mqtt.sealing import ENROLMENT, unseal
from protos.v1 import enrolment_pb2, mqtt_pb2

ENQUIRY_BYTES: Final = REQUEST_BYTES + KIB
"""With its seal."""
MOST_AT_ONCE: Final = 64
FAILURES: Final = Rate(burst=200, per_second=5)
"""Of all together. Each costs a look into the database; secrets can't be guessed anyway."""
LINES: Final = Rate(burst=50, per_second=0.5)
"""Of the log, about what strangers got wrong; more of them stand there at the level of debugging."""
REMEMBERED: Final = 50_000
"""Nonces: what the broker brings once more is not done once more."""
NONCE_BYTES, KEY_BYTES = 16, 32

log = logging.getLogger(__name__)


class Enquiries:
    """Of everybody who asks one controller, over all its connections to the broker."""

    def __init__(
        self, join: Join, renew: Renew, own: ControllerSeal, monotonic: Callable[[], float]
    ) -> None:
        """``join`` and ``renew`` raise ``ControllerError`` to refuse."""
        self._join = join
        self._renew = renew
        self._own = own
        self._monotonic = monotonic
        self._failures = full(FAILURES, monotonic())
        self._lines = full(LINES, monotonic())
        self._under_way = 0
        self._work = DeviceTasks()
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def take(self, client: str, payload: bytes, voice: Voice) -> None:
        """Answers an enquiry, soon; what can't be answered is dropped."""
        if why := self._objection(payload):
            self._note("enrolment.dropped client=%s code=%s", client, why)
            return
        try:
            enquiry = self._opened(payload)
        except DocumentError as error:
            self._note("enrolment.dropped client=%s code=%s", client, error.code)
            return
        self._under_way += 1
        self._work.start(client, self._answer(client, enquiry, voice))

    async def close(self) -> None:
        """Ends what is under way: the connection that it would be answered over has gone."""
        await self._work.close()
        self._under_way = 0  # also of those that were cancelled before they began

    def _objection(self, payload: bytes) -> str:
        """Why the enquiry is not even opened; empty if it is."""
        if len(payload) > ENQUIRY_BYTES:
            return "too-large"
        if self._under_way >= MOST_AT_ONCE:
            return "too-many"
        if level(self._failures, FAILURES, self._monotonic()) < 1.0:
            return "too-many-failures"
        return ""

    def _note(self, line: str, *words: str) -> None:
        now = self._monotonic()
        loud = level(self._lines, LINES, now) >= 1.0
        self._lines = take(self._lines, LINES, now) if loud else self._lines
        log.log(logging.WARNING if loud else logging.DEBUG, line, *words)

    def _opened(self, payload: bytes) -> mqtt_pb2.Enquiry:
        data = unseal(payload, self._own.sealing_key, ENROLMENT)
        try:
            enquiry = mqtt_pb2.Enquiry.FromString(data)
        except DecodeError as error:
            raise DocumentError("malformed", "not an enquiry") from error
        if len(enquiry.nonce) != NONCE_BYTES or len(enquiry.answer_key) != KEY_BYTES:
            raise DocumentError("malformed", "an enquiry without a nonce or a key")
        if enquiry.nonce in self._seen:
            raise DocumentError("replayed", "the enquiry has come before")
        self._seen[enquiry.nonce] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return enquiry

    async def _answer(self, client: str, enquiry: mqtt_pb2.Enquiry, voice: Voice) -> None:
        try:
            answer = await self._answered(client, enquiry)
        finally:
            self._under_way -= 1
        answer.nonce, answer.controller = enquiry.nonce, voice.controller
        await voice.answer_stranger(client, enquiry.answer_key, answer)

    async def _answered(self, client: str, enquiry: mqtt_pb2.Enquiry) -> mqtt_pb2.EnquiryAnswer:
        kind = enquiry.WhichOneof("kind")
        try:
            return mqtt_pb2.EnquiryAnswer(body=await self._done(enquiry))
        except ControllerError as error:
            what = "renewal" if kind == "renew" else "enrolment"
            self._note("%s.refused client=%s code=%s: %s", what, client, error.code, error.detail)
            self._failures = take(self._failures, FAILURES, self._monotonic())
            told = problem(error)
            if told is None:
                return mqtt_pb2.EnquiryAnswer(failed=f"the controller failed: {error.code}")
            return mqtt_pb2.EnquiryAnswer(refused=told)

    async def _done(self, enquiry: mqtt_pb2.Enquiry) -> bytes:
        try:
            match enquiry.WhichOneof("kind"):
                case "join":
                    wish = enrolment_pb2.JoinRequest.FromString(enquiry.join)
                    return (await self._join(wish)).SerializeToString()
                case "renew":
                    asked = enrolment_pb2.RenewRequest.FromString(enquiry.renew)
                    return (await self._renew(asked)).SerializeToString()
                case _:
                    raise InvalidInput("request: of a kind that this controller does not know")
        except DecodeError as error:
            raise InvalidInput("request: it can't be read") from error
