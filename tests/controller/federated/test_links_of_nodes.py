"""A run's coordinator hears of a link that is cut, over every transport."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from controller.desk import DeviceDesk
from controller.federated.exchange import Node
from controller.store.exchange import Place, StoreExchange
from controller.transport.dispatch import Dispatch
from simulations.federated.memory_replies import MemoryReplies
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_store import MemoryStore
from tests.contracts.centre import Centre
from tests.contracts.federated_place import CLOCK, now_ms
from tests.contracts.federated_values import READY, RUN
from tests.contracts.networks import NETWORKS
from tests.contracts.stored import DEVICE


class NoRollouts:
    def wake(self) -> None:
        pass

    async def connected(self, device: str) -> None:
        del device


@dataclass
class Desk(Centre):
    """What a controller notes of links."""

    def __post_init__(self) -> None:
        self.store = MemoryStore()
        blobs: Any = MemoryControllerBlobs()
        self.desk = DeviceDesk(self.store, blobs, CLOCK, None)  # type: ignore[arg-type]
        self.desk.rollouts = NoRollouts()
        with self.store.begin() as tx:
            tx.runs.put(RUN)
            tx.devices.put(replace(DEVICE, id="d1"))
            tx.tasks.replace_readiness("d1", [replace(READY, device="d1")])
        place = Place(self.store, blobs, MemoryReplies(), CLOCK, threading.Event())
        self._exchange = StoreExchange(place, RUN.id)

    def endpoint(self) -> Dispatch:
        async def arrived(device: str) -> None:
            await self.desk.arrived(device)
            await self._note("up", device)

        async def departed(device: str) -> None:
            await self.desk.departed(device)
            await self._note("down", device)

        return replace(super().endpoint(), arrival=arrived, departure=departed)

    @property
    def node(self) -> Node:
        (found,) = self._exchange.nodes()
        return found


@pytest.mark.parametrize("transport", ["grpc", "mqtt"])
async def test_a_node_is_away_from_when_its_link_was_cut_until_it_is_back(
    transport: str, tmp_path: Path
) -> None:
    desk = Desk()
    async with NETWORKS[transport](desk, tmp_path) as network:
        dialer = await network.dialer("d1")
        link = await dialer.dial()
        await desk.until(lambda: desk.presence == [("up", "d1")])
        assert (desk.node.connected, desk.node.away_ms) == (True, 0)

        before_ms = now_ms()
        await network.cut("d1")
        await desk.until(lambda: ("down", "d1") in desk.presence)
        assert not desk.node.connected
        assert before_ms <= desk.node.away_ms <= now_ms()
        await link.close()

        again = await dialer.dial()
        await desk.until(lambda: desk.presence.count(("up", "d1")) == 2)
        assert (desk.node.connected, desk.node.away_ms) == (True, 0)
        await again.close()
