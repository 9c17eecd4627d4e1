"""What becomes of a run is written down, whatever its coordinator meets."""

from dataclasses import replace

import pytest

from controller.errors import StoreError
from controller.federated.coordinator.loop import coordinate
from controller.federated.run import RunState
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator.pretend import declining, devices, initial, ledger

HERE = "tests.controller.federated.coordinator.apps"
SHORT = '[run]\nmodel = "digits/3"\nrounds = 2\n[round]\ndeadline = 2\n[training]\nlearning_rate = 0.5\n'


def coordinated(app: str = "", file: str = SHORT, count: int = 3) -> Ledger:
    found = ledger(devices(count), file=file, app=app)
    coordinate(MemoryExchange(found), initial)
    return found


def test_a_run_of_a_strategy_by_name_ends() -> None:
    found = coordinated()

    assert found.run.state is RunState.FINISHED
    assert found.run.arrays_sha256 == found.final_sha256
    assert [one.phase.value for one in found.phases] == ["evaluate", "train", "train", "evaluate"]


def test_a_buffered_run_ends() -> None:
    file = SHORT.replace("[round]", '[round]\nmode = "buffered"\nbuffer = 2')

    assert coordinated(file=file).run.state is RunState.FINISHED


@pytest.mark.parametrize("name", ["app", "by_hand", "damped"])
def test_a_run_of_an_app_of_ones_own_ends(name: str) -> None:
    file = SHORT + "[config]\nnum-server-rounds = 1\n"

    assert coordinated(f"{HERE}:{name}", file).run.state is RunState.FINISHED


@pytest.mark.parametrize(
    ("app", "said"),
    [
        (f"{HERE}:broken", "apps:broken has raised KeyError: 'no such thing'"),
        (f"{HERE}:idle", "it has left no parameters"),
        (f"{HERE}:nothing", "int is neither a ServerApp nor a Strategy"),
        (f"{HERE}:missing", "can't be imported: AttributeError"),
        ("no_such_module:app", "can't be imported: ModuleNotFoundError"),
    ],
)
def test_an_app_that_is_none_or_raises_fails_its_run_in_words(app: str, said: str) -> None:
    found = coordinated(app)

    assert found.run.state is RunState.FAILED
    assert said in found.run.error
    assert "Traceback" not in found.run.error


def test_a_run_that_can_not_go_on_fails_with_its_remedy() -> None:
    found = ledger([MemoryDevice("cam-1", declining), MemoryDevice("cam-2", declining)], file=SHORT)
    coordinate(MemoryExchange(found), initial)

    assert found.run.state is RunState.FAILED
    assert found.run.error.startswith("round 1, 5 times: 0 replied well, 2 are needed. ")
    assert "`muster federated resume`" in found.run.error


def test_a_run_file_of_another_release_fails_it() -> None:
    found = coordinated(file='[run]\nmodel = "digits/3"\nturns = 9\n')

    assert found.run.state is RunState.FAILED
    assert "turns" in found.run.error


def test_nothing_is_done_for_a_run_that_is_not_at_work() -> None:
    found = ledger(devices(3), file=SHORT, state=RunState.STOPPING)
    coordinate(MemoryExchange(found), initial)

    assert (found.phases, found.tasks) == ([], {})
    assert found.run.state is RunState.STOPPING


def test_a_store_that_is_not_there_is_no_end_of_a_run() -> None:
    found = ledger(devices(3), file=SHORT)

    def unreadable() -> bytes:
        raise StoreError("the disk is gone")

    with pytest.raises(StoreError):
        coordinate(MemoryExchange(found), unreadable)

    assert found.run == replace(found.run, state=RunState.RUNNING)


def test_a_checkpoint_that_is_damaged_is_said_to_be() -> None:
    found = coordinated()
    assert found.checkpoint is not None
    found.checkpoint = replace(found.checkpoint, state=b"junk")
    found.run = replace(found.run, state=RunState.RUNNING)

    coordinate(MemoryExchange(found), initial)

    assert found.run.state is RunState.FAILED
    assert "the checkpoint is not one of this release" in found.run.error
