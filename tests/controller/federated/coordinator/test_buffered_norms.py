"""Updates that are far longer than others make no version, also where there are no rounds."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from agent.federated.update import as_floats
from controller.federated.coordinator import checkpoint
from controller.federated.coordinator.admission import Code
from controller.federated.coordinator.buffered_driver import (
    MOST_NODES,
    BufferedDriver,
    remembered,
)
from controller.federated.coordinator.request import arrays_of
from controller.federated.exchange import Exchange
from controller.federated.plan import Plan
from controller.federated.run import RunState
from controller.federated.task import Phase, Task, TaskState
from protos.flower import message_pb2
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator.mortal import calls_of, killed_after
from tests.controller.federated.coordinator.pretend import (
    Learner,
    devices,
    initial,
    ledger,
    plan,
    reply,
)


def running(buffer: int = 4, ratio: float = 5.0, versions: int = 4) -> Plan:
    mode = {"mode": "buffered", "buffer": buffer, "concurrency": 8, "minimum_cohort": 2}
    return plan(run={"rounds": versions}, round=mode, admission={"norm_ratio": ratio})


def drive(found: Plan) -> Callable[[Exchange], None]:
    return lambda exchange: BufferedDriver(exchange, found, initial()).drive()


def far(message: message_pb2.Message, task: Task) -> bytes:
    """Each number ten farther: some hundred times as long as what others send."""
    record = next(item for item in message.content.items if item.HasField("array_record"))
    before = arrays_of(record.array_record.SerializeToString(deterministic=True))
    after = {name: (array + 10).astype(np.float32) for name, array in before.items()}
    return reply(message, as_floats(before, after).record, {"num-examples": 40, "train_loss": 0.5})


def fleet() -> Ledger:
    """The liar is the quickest."""
    return ledger([*devices(5), MemoryDevice("bad-0", far, 10)])


def states_of_liars(found: Ledger) -> set[TaskState]:
    asked = [one for one in found.tasks.values() if one.phase is Phase.TRAIN]
    return {one.state for one in asked if one.device.startswith("bad")}


@pytest.mark.parametrize("ratio", [5.0, 10.0])
def test_a_long_update_is_refused_from_the_first_version_on(ratio: float) -> None:
    found = fleet()
    drive(running(ratio=ratio))(MemoryExchange(found))

    assert found.run.state is RunState.FINISHED
    assert states_of_liars(found) == {TaskState.REFUSED}
    assert {one.code for one in found.tasks.values() if one.state is TaskState.REFUSED} == {
        Code.NORM_OF_COHORT
    }
    assert max(map(longest, arrays_of(found.blobs[found.final_sha256]).values())) < 5


def longest(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    return float(np.abs(array).max())


def test_without_a_bound_it_owns_the_model() -> None:
    """So that the test above can fail."""
    found = fleet()
    drive(running(ratio=0.0))(MemoryExchange(found))

    assert TaskState.ADMITTED in states_of_liars(found)
    assert max(map(longest, arrays_of(found.blobs[found.final_sha256]).values())) > 5


def turned(seed: int) -> Callable[[message_pb2.Message, Task], bytes]:
    """Honest for three versions."""
    learner = Learner(seed)
    return lambda message, task: (learner if task.round <= 3 else far)(message, task)


def turning() -> Ledger:
    """The quickest two of seven turn: they are two of three that fill a buffer."""
    return ledger(
        [*devices(5), *(MemoryDevice(f"bad-{at}", turned(at), 10 + at) for at in range(2))]
    )


TURNING = drive(running(buffer=3, versions=5))


def test_quick_ones_that_are_most_of_a_buffer_are_few_of_those_that_counted_before() -> None:
    found = turning()
    TURNING(MemoryExchange(found))

    assert found.run.state is RunState.FINISHED
    late = [one for one in found.tasks.values() if one.round > 3 and one.device.startswith("bad")]
    assert {one.state for one in late} == {TaskState.REFUSED}


def test_killed_at_any_call_it_compares_with_what_counted_before() -> None:
    whole = turning()

    for count in range(calls_of(whole, TURNING)):
        cut = turning()
        killed_after(cut, TURNING, count)

        assert cut.final_sha256 == whole.final_sha256, count
        assert {one.id: (one.state, one.code) for one in cut.tasks.values()} == {
            one.id: (one.state, one.code) for one in whole.tasks.values()
        }


def tiny(message: message_pb2.Message, task: Task) -> bytes:
    """Next to nothing."""
    record = next(item for item in message.content.items if item.HasField("array_record"))
    before = arrays_of(record.array_record.SerializeToString(deterministic=True))
    after = {name: (array + 1e-6).astype(np.float32) for name, array in before.items()}
    return reply(message, as_floats(before, after).record, {"num-examples": 40, "train_loss": 0.5})


def test_a_quick_device_with_many_tiny_updates_is_one_of_many() -> None:
    found = ledger([*devices(5), MemoryDevice("bad-0", tiny, 10)])
    drive(running(buffer=2, versions=20))(MemoryExchange(found))

    assert found.run.state is RunState.FINISHED
    counted = [one.device for one in found.tasks.values() if one.state is TaskState.ADMITTED]
    assert counted.count("bad-0") > len(counted) / 3
    assert TaskState.REFUSED not in {one.state for one in found.tasks.values()}


def shy(seed: int) -> Callable[[message_pb2.Message, Task], bytes]:
    """Moves next to nothing in the first nine versions."""
    learner = Learner(seed)
    return lambda message, task: (tiny if task.round <= 9 else learner)(message, task)


def test_a_fleet_that_moves_farther_than_before_goes_on() -> None:
    several = [MemoryDevice(f"cam-{at}", shy(at), 50 + 17 * at) for at in range(5)]
    found = ledger(several)
    drive(running(versions=14))(MemoryExchange(found))

    assert found.run.state is RunState.FINISHED
    assert max(map(longest, arrays_of(found.blobs[found.final_sha256]).values())) > 0.1


def test_of_each_device_the_newest_is_kept() -> None:
    found = ledger(devices(5))
    drive(running(versions=20))(MemoryExchange(found))

    assert found.checkpoint is not None
    kept = checkpoint.read(found.checkpoint.state)["lengths"]
    assert {int(node) for node in kept} == set(found.devices)
    assert min(kept.values()) > 0


def test_of_so_many_devices_and_no_more() -> None:
    before = dict.fromkeys(range(MOST_NODES), 1.0)

    found = remembered(before, [(7, 2.0), (-1, 3.0)])

    assert len(found) == MOST_NODES
    assert 0 not in found
    assert list(found.items())[-2:] == [(7, 2.0), (-1, 3.0)]
    assert before[7] == 1.0


def test_a_checkpoint_of_a_release_that_kept_no_nodes_is_read() -> None:
    found = ledger(devices(5))
    drive(running(versions=2))(MemoryExchange(found))
    assert found.checkpoint is not None
    state = checkpoint.read(found.checkpoint.state)
    del state["lengths"]
    old = checkpoint.written({**state, "norms": [0.5, 0.25]})
    found.checkpoint = replace(found.checkpoint, state=old)
    found.run = replace(found.run, state=RunState.RUNNING)

    drive(running(versions=4))(MemoryExchange(found))

    assert (found.run.state, found.run.round) == (RunState.FINISHED, 4)
