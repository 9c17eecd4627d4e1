"""Which devices a run may ask, kept from one look to the next: of a large fleet little changes between."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from controller.federated.exchange import Node
from controller.federated.readiness import DeviceReadiness, Standing
from controller.federated.run import Run
from controller.federated.task import node_id
from controller.fleet.attributes import attributes
from controller.fleet.device import Device, DeviceStatus
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse

BUSY: Final = "busy"
"""It has a task of another run."""


class NodeBook:
    """The run's devices: those that run its parent with a train step, and match its selector.

    Attributes:
        revision: up to which changes are in it.
    """

    def __init__(self, run: Run, selector: str) -> None:
        self.revision = 0
        self._manifest = run.manifest_sha256
        self._selector = parse(selector)
        self._nodes: dict[int, Node] = {}
        self._order: list[int] | None = []
        self._of: dict[str, int] = {}

    def take(self, standing: Standing) -> None:
        """Takes in what has changed."""
        devices = {one.id: one for one in standing.devices}
        told = {one.device: one for one in standing.told}
        for name in standing.ids:
            self._put(name, devices.get(name), told.get(name))
        self.revision = standing.revision

    def nodes(self, busy: Collection[str] = ()) -> Sequence[Node]:
        """By node id. Whoever is ``busy`` would not take part."""
        if self._order is None:
            self._order = sorted(self._nodes)
        found = [self._nodes[one] for one in self._order]
        if not busy:
            return found
        return [
            replace(one, eligible=False, reason=BUSY) if one.device in busy else one
            for one in found
        ]

    def _put(self, name: str, device: Device | None, said: DeviceReadiness | None) -> None:
        before = self._of.get(name)
        if device is None or said is None or not self._takes_part(device, said):
            if before is not None:
                del self._of[name], self._nodes[before]
                self._order = None
            return
        if before is None:
            before = node_id(name)
            if before in self._nodes:  # two of one id: whoever was here first is asked
                return
            self._of[name] = before
            self._order = None
        self._nodes[before] = _node(before, device, said)

    def _takes_part(self, device: Device, said: DeviceReadiness) -> bool:
        runs_it = said.manifest_sha256 == self._manifest and device.status is DeviceStatus.ACTIVE
        return runs_it and matches(self._selector, attributes(device))


def _node(node: int, device: Device, said: DeviceReadiness) -> Node:
    return Node(
        node,
        device.id,
        device.connected,
        said.eligible,
        said.reason,
        said.examples,
        0 if device.connected else int(device.last_seen * 1000),
    )
