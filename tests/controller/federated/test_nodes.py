"""Which devices a run may ask, and what its blobs are needed for."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from controller.federated.exchange import Node, Outcome
from controller.federated.nodes import BUSY, NodeBook
from controller.federated.readiness import DeviceReadiness, Standing, StoredCheckpoint
from controller.federated.run import RunState
from controller.federated.settling import keeps_its_journal, needed, settled, taken_back
from controller.federated.task import TaskState, node_id
from controller.fleet.device import Device, DeviceStatus
from tests.contracts.federated_values import READY, RUN, TASK
from tests.contracts.stored import DEVICE

DEVICES = [replace(DEVICE, id=f"dev-{number}", connected=True) for number in range(1, 5)]


def standing(
    devices: Sequence[Device], told: Sequence[DeviceReadiness], revision: int = 1
) -> Standing:
    return Standing([one.id for one in devices], devices, told, revision)


def nodes_of(
    selector: str,
    devices: Sequence[Device],
    told: Sequence[DeviceReadiness],
    busy: Collection[str] = (),
) -> Sequence[Node]:
    book = NodeBook(RUN, selector)
    book.take(standing(devices, told))
    return book.nodes(busy)


def test_nodes_run_the_parent_match_and_are_active() -> None:
    devices = [
        *DEVICES,
        replace(DEVICE, id="elsewhere", labels={"site": "oslo"}),
        replace(DEVICE, id="gone", status=DeviceStatus.REVOKED),
    ]
    told = [replace(READY, device=one.id) for one in devices if one.id != "dev-3"]
    told[1] = replace(told[1], manifest_sha256="another")

    nodes = nodes_of("site=berlin", devices, told)

    assert [node.device for node in nodes] == sorted(("dev-1", "dev-4"), key=node_id)
    assert all(node.id == node_id(node.device) and node.eligible for node in nodes)
    assert all(node.connected and node.examples == 200 for node in nodes)


def test_a_device_with_a_task_of_another_run_is_busy() -> None:
    told = [replace(READY, device=one.id) for one in DEVICES]

    nodes = {node.device: node for node in nodes_of("all", DEVICES, told, {"dev-1"})}

    assert (nodes["dev-1"].eligible, nodes["dev-1"].reason) == (False, BUSY)
    assert nodes["dev-2"].eligible


def test_what_a_device_says_is_passed_on() -> None:
    said = replace(READY, eligible=False, reason="battery", examples=3)

    away = replace(DEVICE, connected=False, last_seen=7.5)
    (node,) = nodes_of("all", [away], [said])

    assert node == Node(node_id(DEVICE.id), DEVICE.id, False, False, "battery", 3, 7_500)  # noqa: FBT003


def test_what_changes_is_taken_in_and_the_rest_stays() -> None:
    book = NodeBook(RUN, "site=berlin")
    told = [replace(READY, device=one.id) for one in DEVICES]
    book.take(standing(DEVICES, told))
    before = {node.device: node for node in book.nodes()}

    gone = replace(DEVICES[0], connected=False, last_seen=9.0)
    moved = replace(DEVICES[1], labels={"site": "oslo"})
    book.take(
        standing([gone, moved, DEVICES[2]], [told[0], told[1], replace(told[2], eligible=False)], 7)
    )

    after = {node.device: node for node in book.nodes()}
    assert book.revision == 7
    assert after.keys() == {"dev-1", "dev-3", "dev-4"}
    assert after["dev-1"] == replace(before["dev-1"], connected=False, away_ms=9_000)
    assert not after["dev-3"].eligible
    assert after["dev-4"] is before["dev-4"]

    book.take(Standing(["dev-4", "unheard-of"], [], [], 8))
    assert {node.device for node in book.nodes()} == {"dev-1", "dev-3"}
    book.take(standing([DEVICES[3]], [told[3]], 9))
    assert [node.id for node in book.nodes()] == sorted(map(node_id, ("dev-1", "dev-3", "dev-4")))


def test_a_decision_is_final() -> None:
    replied = replace(TASK, state=TaskState.REPLIED)
    refused = settled(replied, Outcome(TASK.id, "refused", "norm", "too far"))
    assert (refused.state, refused.code, refused.reason) == (TaskState.REFUSED, "norm", "too far")
    assert settled(refused, Outcome(TASK.id, "admitted")) is refused
    assert settled(TASK, Outcome(TASK.id, "admitted")) is TASK
    assert settled(replied, Outcome(TASK.id, "silent")).state is TaskState.LATE
    assert [one.state for one in taken_back([TASK, replied, refused])] == [TaskState.SILENT]


def test_a_run_needs_what_it_goes_on_from_until_it_has_finished() -> None:
    checkpoint = StoredCheckpoint(1, 1, "c" * 64, "s" * 64)
    finished = replace(RUN, state=RunState.FINISHED, arrays_sha256="f" * 64)

    assert needed(RUN, [TASK], checkpoint) == {"a" * 64, "c" * 64, "s" * 64}
    assert needed(RUN, [], None) == set()
    assert needed(finished, [], checkpoint) == {"f" * 64}
    assert not keeps_its_journal(RUN)
    assert keeps_its_journal(replace(RUN, app="my:app", state=RunState.FAILED))
    assert not keeps_its_journal(replace(finished, app="my:app"))
