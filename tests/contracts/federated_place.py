"""A store with a federated run, behind a desk of its own: what devices ask, over any transport."""

from dataclasses import dataclass, field

from agent.clock import SystemClock
from controller.federated.intake.actions import Intake
from controller.federated.telling.loop import OrderLoop
from controller.store.store import Store
from controller.transport.dispatch import Dispatch
from protos.methods import READINESS, REPLY
from simulations.federated.memory_replies import MemoryReplies
from simulations.memory_store import MemoryStore
from tests.contracts.centre import Centre

CLOCK = SystemClock()


def now_ms() -> int:
    return int(CLOCK.now().timestamp() * 1000)


@dataclass
class FederatedCentre(Centre):
    """What a controller does for devices in runs, and nothing else."""

    store: Store = field(default_factory=MemoryStore)
    replies: MemoryReplies = field(default_factory=MemoryReplies)
    orders: OrderLoop | None = None

    def endpoint(self) -> Dispatch:
        intake = Intake(self.store, self.replies)

        async def reply(device: str, request: bytes) -> bytes:
            return intake.reply(device, request, now_ms)

        async def readiness(device: str, payload: bytes) -> None:
            intake.readiness(device, payload, now_ms())
            await self._note("ready", device)

        async def arrived(device: str) -> None:
            if self.orders is not None:
                await self.orders.connected(device)
            await self._note("up", device)

        return Dispatch(
            actions={REPLY.name: reply},
            listeners={READINESS: readiness},
            admission=self._admit,
            arrival=arrived,
            departure=lambda device: self._note("down", device),
            blobs=self._blob,
        )
