"""A candidate that is made in a process of its own is the one that would be made here, to the bit."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil
import pytest

from agent.monitor.counts import Counts
from controller.candidate.actions import Means, here, register_candidate
from controller.candidate.errors import Interrupted, NoCandidate
from controller.candidate.preparation import TrainedParent
from controller.candidate.trained import Trained
from controller.errors import BadModel
from controller.registry.preparation import Prepared
from controller.registry.version import State
from controller.runtimes.candidate_job import candidate_job
from controller.runtimes.candidates import MODULE, ProcessCandidates
from protos.limits import MIB
from protos.manifest import Role
from tests.controller.candidate.runs import DEVICES, TURNED, Fleet, trained
from tests.controller.registry.registry import NOW

ROOT = Path(__file__).resolve().parents[3]
Asked = tuple[TrainedParent, Trained, Sequence[Counts], int]


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    found = Fleet()
    for device in DEVICES:
        found.tell(device)
    return found


@pytest.fixture(scope="module")
def asked(fleet: Fleet) -> Asked:
    """What a registration asks for."""
    found: list[Asked] = []

    class Seen(Exception):
        pass

    def preparing(*given: object) -> Prepared:
        found.append(given)  # type: ignore[arg-type]
        raise Seen

    with pytest.raises(Seen):
        register(fleet, preparing, "run-7")
    return found[0]


def register(fleet: Fleet, preparing: Callable[..., Prepared], run: str) -> object:
    registry = fleet.registry
    means = Means(registry.store, registry.blobs, preparing, 3)
    return register_candidate(means, "things/1", trained(run=run), "ann", NOW)


def test_it_is_the_same_bits_as_here(fleet: Fleet, asked: Asked) -> None:
    apart, near = ProcessCandidates()(*asked), here(fleet.registry.runtime)(*asked)

    assert apart.files == near.files
    assert apart.files.keys() >= {Role.MODEL, Role.MODEL_STEP, Role.REFERENCE, Role.GOLDEN}
    assert (apart.signature, apart.metrics, apart.notes) == (
        near.signature, near.metrics, near.notes,
    )  # fmt: skip
    assert (apart.estimator, apart.training, apart.origin) == (
        near.estimator, near.training, near.origin,
    )  # fmt: skip
    assert apart.candidate.parent_metrics == near.candidate.parent_metrics != {}


def test_what_is_refused_there_is_refused_here(asked: Asked) -> None:
    parent, _, windows, seed = asked

    with pytest.raises(NoCandidate, match="not those of the train step: 'v'"):
        ProcessCandidates()(parent, trained(parameters={"v": TURNED}), windows, seed)


def test_one_that_takes_too_much_memory_is_refused_and_named(asked: Asked) -> None:
    with pytest.raises(BadModel, match=r"memory|bytes|bad_alloc"):
        ProcessCandidates(memory_bytes=1 * MIB)(*asked)


def at_work(preparing: ProcessCandidates) -> int:
    """The id of the process, once it is there."""
    pause = threading.Event()
    while not (pids := preparing.children.pids):
        pause.wait(0.01)
    return pids[0]


@pytest.fixture
def beside(asked: Asked) -> "Callable[[ProcessCandidates], Future[Prepared]]":
    """Makes it on another thread."""
    pool = ThreadPoolExecutor(1)
    return lambda preparing: pool.submit(preparing, *asked)


def test_a_process_that_is_killed_is_no_verdict_on_the_candidate_and_the_next_makes_it(
    fleet: Fleet,
    asked: Asked,
    beside: "Callable[[ProcessCandidates], Future[Prepared]]",
) -> None:
    preparing = ProcessCandidates()
    made = beside(preparing)
    os.kill(at_work(preparing), signal.SIGKILL)

    with pytest.raises(Interrupted, match="SIGKILL"):
        made.result()
    with fleet.registry.tx() as tx:
        assert [one.version for one in tx.registry.versions("things")] == [1]

    registered = register(fleet, preparing, "run-7")
    assert registered.version.state is State.VALIDATED  # type: ignore[attr-defined]


def test_a_controller_that_ends_takes_it_along(
    beside: "Callable[[ProcessCandidates], Future[Prepared]]",
) -> None:
    preparing = ProcessCandidates()
    made = beside(preparing)
    at_work(preparing)

    preparing.end()

    with pytest.raises(Interrupted):
        made.result()
    assert preparing.children.pids == []


def test_it_does_not_outlive_a_controller_that_is_killed(asked: Asked, tmp_path: Path) -> None:
    message = tmp_path / "job"
    message.write_bytes(msgspec.msgpack.encode(candidate_job(*asked, 60, 1024 * MIB)))
    program = (
        "import sys, threading, time\n"
        "from controller.runtimes.children import Children\n"
        f"children = Children({MODULE!r})\n"
        f"data = open({str(message)!r}, 'rb').read()\n"
        "threading.Thread(target=children.run, args=(data, 60), daemon=True).start()\n"
        "while not children.pids:\n"
        "    time.sleep(0.01)\n"
        "print(children.pids[0], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as controller:
        assert controller.stdout is not None
        child = psutil.Process(int(controller.stdout.readline()))
        controller.kill()

    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
