"""Updates that are far longer than others make no version, also where there are no rounds."""

from collections.abc import Callable

import numpy as np
import pytest

from agent.federated.update import as_floats
from controller.federated.coordinator import checkpoint
from controller.federated.coordinator.admission import Code
from controller.federated.coordinator.buffered_driver import RECENT, BufferedDriver
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


def test_as_many_are_kept_as_are_compared_with_and_no_more() -> None:
    found = ledger(devices(5))
    drive(running(versions=20))(MemoryExchange(found))

    assert found.checkpoint is not None
    kept = checkpoint.read(found.checkpoint.state)["norms"]
    assert len(kept) == RECENT < 20 * 4
    assert min(kept) > 0
