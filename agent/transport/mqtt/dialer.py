"""Dials a controller through an MQTT broker."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from agent.clock import Clock
from agent.errors import AgentError, TransportError
from agent.identity import keys
from agent.transport.mqtt.controllers import Controllers
from agent.transport.mqtt.letters import Letters
from agent.transport.mqtt.link import MqttLink
from agent.transport.mqtt.memory import Memory
from agent.transport.mqtt.questions import Waits
from protos.errors import BrokerError
from protos.mqtt import topics
from protos.mqtt.broker import Broker, Habits, Will
from protos.mqtt.connection import connected
from protos.mqtt.secret_names import secret_name

DIAL_SECONDS: Final = 20.0
OTHER_SECONDS: Final = 2.0
"""For so long another controller is awaited than one that has not answered: a broker may keep the
state of one that is no more, and tell it first."""

REMEMBERED_SECONDS: Final = 86_400
"""For so long the broker keeps what comes for a device that is away."""

WILL_DELAY_SECONDS: Final = 5
"""A device that is back so soon was never away, for the controllers."""


@dataclass(frozen=True, slots=True)
class DeviceAccess:
    """Who the device is to a broker and to controllers.

    Attributes:
        broker: where it is, and who issued its certificate; ours is not yet in it.
        server_ca_pem: the pinned CA of the controllers.
        certificate_pem: asked at every dial: it is renewed now and then.
        next_session: 1, 2, 3, …: never the same twice, over restarts too. May block.
    """

    device: str
    broker: Broker
    server_ca_pem: bytes
    key_pem: bytes
    certificate_pem: Callable[[], bytes]
    next_session: Callable[[], int]


class MqttDialer:
    """See ``Dialer``."""

    def __init__(
        self,
        access: DeviceAccess,
        clock: Clock,
        rng: random.Random,
        on_desired: Callable[[bytes], None],
        *,
        keepalive: int = 60,
        timeout: float = DIAL_SECONDS,
        will_delay: int = WILL_DELAY_SECONDS,
        waits: Waits = Waits(),  # noqa: B008 - it is frozen
    ) -> None:
        """``on_desired`` is told the retained directive although no controller is there.

        It gets a serialised ``muster.v1.Command``, and must not block.
        """
        self._access = access
        self._clock = clock
        self._rng = rng
        self._on_desired = on_desired
        self._keepalive = keepalive
        self._timeout = timeout
        self._will_delay = will_delay
        self._waits = waits
        self._signer = keys.signer(access.key_pem)
        self._client_id = secret_name(access.key_pem, "client id")
        self._memory = Memory()
        self._silent: set[str] = set()

    async def dial(self) -> MqttLink:
        """A link that is up: a controller has taken the device."""
        access = self._access
        session = await asyncio.to_thread(access.next_session)
        certificate_pem = access.certificate_pem()
        letters = Letters(access.device, session, self._signer, certificate_pem, self._memory)
        controllers = Controllers(access.server_ca_pem, self._clock.now)
        link = MqttLink(letters, controllers, self._on_desired, self._waits)
        broker = Broker(
            access.broker.address, access.broker.ca_pem, certificate_pem, access.key_pem
        )
        try:
            await self._attended(link, broker, letters)
            await link.be_born(
                lambda: controllers.pick(self._rng, self._silent),
                min(OTHER_SECONDS, self._timeout) if self._silent else self._timeout,
                self._timeout,
            )
        except BrokerError as error:
            await link.close()
            raise TransportError(f"the broker at {access.broker.address}: {error}") from error
        except TimeoutError as error:
            self._silent.add(link.controller)
            await link.close()
            raise TransportError("the controller at the broker did not answer") from error
        except (AgentError, asyncio.CancelledError):
            if not link.controller:
                self._silent.clear()  # there is no other: the next dial takes whoever there is
            await link.close()
            raise
        self._silent.clear()
        return link

    async def _attended(self, link: MqttLink, broker: Broker, letters: Letters) -> None:
        will = Will(topics.death(letters.device), letters.will(), delay=self._will_delay)
        habits = Habits(self._keepalive, REMEMBERED_SECONDS)
        async with AsyncExitStack() as rest:
            client = await rest.enter_async_context(
                connected(broker, self._client_id, link.receive, habits, will)
            )
            await link.attend(client, rest.pop_all())
