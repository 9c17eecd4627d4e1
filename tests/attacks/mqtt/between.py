"""A broker that lies: two real ones, and between them somebody who decides what gets through.

Devices stand at the one, controllers at the other. Whoever is between them has every right at both,
sees all that a broker sees, and holds no key. What messages expire after it forgets: nothing may
depend on that either.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Final

from controller.broker import mosquitto as generator
from protos.mqtt import topics
from protos.mqtt.broker import Broker as Access
from protos.mqtt.broker import Habits
from protos.mqtt.connection import BrokerClient, Incoming, connected
from protos.mqtt.topics import Leaf
from tests.brokers import HOST, Broker, Certificates, free_ports, mosquitto
from tests.contracts.centre import DEADLINE

RETAINED: Final = (Leaf.STATE, Leaf.DESIRED)


class Toward(Enum):
    """Which way a message goes."""

    DEVICES = "devices"
    CONTROLLERS = "controllers"


_HEARD: Final = {
    # What is said on one side, and is meant for the other.
    Toward.DEVICES: (topics.STATES, topics.desired("+"), topics.down("+")),
    Toward.CONTROLLERS: (topics.call("+"), topics.DEATHS, topics.inbox("+", "+"), topics.ask("+")),
}


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message on its way."""

    toward: Toward
    topic: str
    payload: bytes
    correlation: bytes = b""
    answer_to: str = ""

    @property
    def leaf(self) -> Leaf | None:
        """What kind of message it is."""
        address = topics.address(self.topic)
        return None if address is None else address.leaf

    @property
    def whose(self) -> str:
        """The device that it comes from or goes to; of a state the controller."""
        address = topics.address(self.topic)
        return "" if address is None else address.whose

    def but(self, *, topic: str = "", payload: bytes | None = None) -> "Parcel":
        """The same with another topic or payload."""
        data = self.payload if payload is None else payload
        return replace(self, topic=topic or self.topic, payload=data)


Malice = Callable[[Parcel], Iterable[Parcel]]
"""What is delivered in place of a message: nothing, itself, others, more."""


def honest(parcel: Parcel) -> Iterable[Parcel]:
    """Delivers each message as it is, once."""
    return (parcel,)


@dataclass
class Between:
    """Who carries messages from one broker to the other.

    Attributes:
        malice: what it does with each.
        seen: all that it was given, oldest first.
    """

    brokers: dict[Toward, Broker]
    malice: Malice = honest
    seen: list[Parcel] = field(default_factory=list)
    _clients: dict[Toward, BrokerClient] = field(default_factory=dict)
    _given: "asyncio.Queue[Parcel]" = field(default_factory=asyncio.Queue)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def deliver(self, *parcels: Parcel) -> None:
        """Returns once the broker on that side has them."""
        for one in parcels:
            retain = one.leaf in RETAINED
            await self._clients[one.toward].publish(
                one.topic,
                one.payload,
                retain=retain,
                correlation=one.correlation,
                answer_to=one.answer_to,
            )

    async def until(self, happened: Callable[[], bool]) -> None:
        """Returns once it is so; looks whenever a message was dealt with."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(happened)

    def of(self, leaf: Leaf, whose: str = "") -> list[Parcel]:
        """What was seen of that kind."""
        return [one for one in self.seen if one.leaf is leaf and whose in ("", one.whose)]

    def newest_retained(self) -> list[Parcel]:
        """What an honest broker would keep."""
        kept = {one.topic: one for one in self.seen if one.leaf in RETAINED}
        return list(kept.values())

    def receiver(self, toward: Toward) -> Callable[[Incoming], None]:
        """Takes what is said on one side."""

        def take(incoming: Incoming) -> None:
            parcel = Parcel(
                toward,
                incoming.topic,
                incoming.payload,
                incoming.correlation,
                incoming.answer_to,
            )
            self._given.put_nowait(parcel)

        return take

    def attend(self, toward: Toward, client: BrokerClient) -> None:
        """Delivers with that connection what goes there."""
        self._clients[toward] = client

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            parcel = await self._given.get()
            self.seen.append(parcel)
            await self.deliver(*self.malice(parcel))
            async with self._changed:
                self._changed.notify_all()


@asynccontextmanager
async def between(tmp_path: Path, certificates: Certificates) -> AsyncIterator[Between]:
    """Two brokers with the access lists that Muster makes, and who is between them."""
    async with AsyncExitStack() as rest:
        brokers = {
            toward: await rest.enter_async_context(mosquitto(tmp_path, certificates))
            for toward in Toward
        }
        middle = Between(brokers)
        for toward, broker in brokers.items():
            other = Toward.CONTROLLERS if toward is Toward.DEVICES else Toward.DEVICES
            access = Access(await back_door(broker), certificates.broker_authority.certificate_pem)
            receive = middle.receiver(other)
            client = await rest.enter_async_context(connected(access, "", receive, Habits()))
            middle.attend(toward, client)
            await client.subscribe(_HEARD[other])
        carrying = asyncio.create_task(middle.run())
        try:
            yield middle
        finally:
            carrying.cancel()
            await asyncio.wait([carrying])


async def back_door(broker: Broker) -> str:
    """HOST:PORT where whoever comes may do everything."""
    port = free_ports().strangers
    with (broker.folder / generator.CONFIGURATION).open("a") as file:
        file.write(
            f"\nlistener {port} {HOST}\nallow_anonymous true\n"
            f"certfile {broker.folder / generator.CERTIFICATE}\n"
            f"keyfile {broker.folder / generator.KEY}\n"
        )
    await broker.restart()
    return f"localhost:{port}"
