"""Which devices a run may ask."""

from collections.abc import Iterable, Sequence
from typing import Final

from controller.federated.exchange import Node
from controller.federated.readiness import DeviceReadiness
from controller.federated.run import Run
from controller.federated.task import Task, TaskState, node_id
from controller.fleet.attributes import attributes
from controller.fleet.device import Device, DeviceStatus
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse

BUSY: Final = "busy"
"""It has a task of another run."""


def nodes_of(
    run: Run,
    selector: str,
    devices: Iterable[Device],
    told: Iterable[DeviceReadiness],
    others: Iterable[Task],
) -> Sequence[Node]:
    """The run's devices, by node id: those that run its parent with a train step, and match.

    ``others`` are tasks of other runs. Of two devices with one node id the first by name is asked.
    """
    chosen = parse(selector)
    ready = {one.device: one for one in told if one.manifest_sha256 == run.manifest_sha256}
    busy = {one.device for one in others if one.state is TaskState.POSTED}
    found: dict[int, Node] = {}
    for device in sorted(devices, key=lambda one: one.id):
        said = ready.get(device.id)
        if said is None or device.status is not DeviceStatus.ACTIVE:
            continue
        if matches(chosen, attributes(device)):
            node = node_id(device.id)
            found.setdefault(node, _node(node, device, said, device.id in busy))
    return [found[node] for node in sorted(found)]


def _node(node: int, device: Device, said: DeviceReadiness, busy: bool) -> Node:
    return Node(
        node,
        device.id,
        device.connected,
        said.eligible and not busy,
        BUSY if busy else said.reason,
        said.examples,
    )
