"""What a device asks of controllers over a broker, and the answers that it awaits."""

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.errors import AgentError, Refused, TransportError
from agent.transport.mqtt.controllers import Controller
from agent.transport.mqtt.letters import Letters
from protos.errors import BrokerError
from protos.mqtt import topics
from protos.mqtt.connection import BrokerClient
from protos.v1 import mqtt_pb2

Answer = mqtt_pb2.ControllerMessage

CHUNK_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Waits:
    """For how many seconds an answer is awaited: to a call, and to a piece of a blob."""

    call: float = 60.0
    chunk: float = 15.0


class Questions:
    """Of one link. They raise ``TransportError`` and ``Refused``, and nothing else but what they say."""

    def __init__(
        self, letters: Letters, on_silence: Callable[[AgentError], object], waits: Waits
    ) -> None:
        """``on_silence`` is told when nobody answered: who is there, answers, so the link is over."""
        self._letters = letters
        self._on_silence = on_silence
        self._waits = waits
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._failure: AgentError = TransportError("the link is not up yet")
        self._client: BrokerClient | None = None
        self._controller: Controller | None = None

    def aim(self, client: BrokerClient, controller: Controller) -> None:
        """From now on that controller is asked, and others in its place."""
        self._client, self._controller = client, controller

    def fail(self, reason: AgentError) -> None:
        """Nothing is asked and answered any more."""
        self._client, self._failure = None, reason
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(TransportError(str(reason)))

    def take(self, message: Answer) -> None:
        """Hands an answer to who awaits it."""
        answer = self._pending.get(message.answers)
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def be_born(self, seconds: float) -> None:
        """Returns once the controller has taken us.

        Raises:
            TimeoutError: it did not answer in time.
        """
        message = mqtt_pb2.DeviceMessage(birth=mqtt_pb2.Birth())
        _taken(await self._ask(message, seconds, addressed=True, introduced=True))

    async def ask(self, message: mqtt_pb2.DeviceMessage, *, addressed: bool = False) -> Answer:
        """The answer, of our controller if the message is ``addressed``, and else of any."""
        try:
            return await self._known(message, self._waits.call, addressed=addressed)
        except TimeoutError as error:
            raise self._silence() from error

    async def chunk(self, wanted: mqtt_pb2.ChunkRequest) -> bytes:
        """A piece of a blob: asked for again if it does not come; the broker may have lost it."""
        message = mqtt_pb2.DeviceMessage(chunk=wanted)
        for _ in range(CHUNK_ATTEMPTS):
            with contextlib.suppress(TimeoutError):
                return (await self._known(message, self._waits.chunk)).body
        raise self._silence()

    async def _known(
        self, message: mqtt_pb2.DeviceMessage, seconds: float, *, addressed: bool = False
    ) -> Answer:
        """As ``_ask``; a controller that does not know us is asked again, with our certificate."""
        answer = await self._ask(message, seconds, addressed=addressed)
        if answer.HasField("certificate_wanted"):
            answer = await self._ask(message, seconds, addressed=addressed, introduced=True)
        return _taken(answer)

    def _silence(self) -> TransportError:
        silence = TransportError("no controller at the broker answered in time")
        self._on_silence(silence)
        return silence

    async def _ask(
        self,
        message: mqtt_pb2.DeviceMessage,
        seconds: float,
        *,
        addressed: bool = False,
        introduced: bool = False,
    ) -> Answer:
        client, controller = self._client, self._controller
        if client is None or controller is None:
            raise self._failure.with_traceback(None)
        device = self._letters.device
        number, data = self._letters.write(
            message, controller, addressed=addressed, introduced=introduced
        )
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        try:
            async with asyncio.timeout(seconds):
                await client.publish(
                    topics.inbox(controller.id, device) if addressed else topics.call(device),
                    data,
                    expiry=math.ceil(seconds),
                    answer_to=topics.down(device),
                    correlation=number.to_bytes(8, "big"),
                    often=True,
                )
                return await answer
        except BrokerError as error:
            raise TransportError(f"the broker: {error}") from error
        finally:
            del self._pending[number]
            answer.cancel()
            if answer.done() and not answer.cancelled():
                answer.exception()  # it may have come while the question was not yet out


def _taken(answer: Answer) -> Answer:
    match answer.WhichOneof("kind"):
        case "refused":
            problem = answer.refused
            raise Refused(problem.code, problem.detail, problem.remedy, problem.retry_after_ms)
        case "failed":
            raise TransportError(answer.failed[:500])
        case "body" | "done":
            return answer
        case _:
            raise TransportError("the controller answered what was not asked")
