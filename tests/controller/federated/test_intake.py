"""What devices send in federated runs: whole, repeated, late, foreign, too large, broken."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest

from agent.clock import SystemClock
from controller.errors import DeviceRevoked, DeviceUnknown, InvalidInput
from controller.federated.intake.actions import Intake
from controller.federated.intake.piece import Piece
from controller.federated.readiness import MOST_MODELS
from controller.federated.task import Task, TaskState
from controller.fleet.device import DeviceStatus
from controller.store.exchange import Place as StorePlace
from controller.store.exchange import StoreExchange
from controller.store.sql.sql_store import SqlStore
from controller.store.store import Store
from protos.v1 import federated_pb2
from simulations.federated.memory_replies import MemoryReplies
from simulations.memory_store import MemoryStore
from simulations.memory_store.store import MemoryTransaction
from tests.contracts.federated_values import PHASE, RUN, TASK
from tests.contracts.stored import DEVICE

NOW = TASK.posted_ms + 1_000
REPLY = bytes(range(256)) * 4


class Place:
    """An intake over a store with one run and one task."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or MemoryStore()
        self.replies = MemoryReplies()
        self.runs: list[str] = []
        self.intake = Intake(self.store, self.replies, self.runs.append)
        with self.store.begin() as tx:
            tx.devices.put(DEVICE)
            tx.devices.put(replace(DEVICE, id="dev-2"))
            tx.runs.put(replace(RUN, file='[run]\nmodel = "digits/3"\n[round]\nrest = "2s"\n'))
            tx.tasks.add([TASK])

    def send(
        self,
        begin: int = 0,
        end: int = len(REPLY),
        *,
        device: str = "dev-1",
        now_ms: int = NOW,
        **changes: object,
    ) -> federated_pb2.ReplyReceipt:
        fields = {"offset": begin, "data": REPLY[begin:end], **changes}
        request = self.piece(**fields)
        return federated_pb2.ReplyReceipt.FromString(
            self.intake.reply(device, request, lambda: now_ms)
        )

    def piece(self, **changes: object) -> bytes:
        """All of the reply, but for the changes."""
        fields = {
            "task_id": TASK.id,
            "sha256": hashlib.sha256(REPLY).hexdigest(),
            "length": len(REPLY),
            "data": REPLY,
            **changes,
        }
        return federated_pb2.ReplyPiece(**fields).SerializeToString()  # type: ignore[arg-type]

    def state(self) -> TaskState:
        with self.store.read() as tx:
            task = tx.tasks.get(TASK.id)
        assert task is not None
        return task.state

    def close(self) -> None:
        """As a coordinator does whose deadline is over."""
        with self.store.begin() as tx:
            tx.tasks.put(replace(TASK, state=TaskState.SILENT))
            tx.runs.add_phase(RUN.id, PHASE)

    def counted_late(self) -> int:
        with self.store.read() as tx:
            return sum(one.late for one in tx.runs.phases(RUN.id))


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_reply_in_pieces_is_stored_when_the_last_has_come(place: Place) -> None:
    first = place.send(0, 500)
    gap = place.send(700, 800)
    assert (first.have, first.complete, gap.have) == (500, False, 500)
    assert (place.state(), place.runs) == (TaskState.POSTED, [])

    last = place.send(500)

    assert (last.have, last.complete, last.next_after_ms) == (1024, True, 2000)
    assert place.replies.read(TASK.id) == REPLY
    with place.store.read() as tx:
        task = tx.tasks.get(TASK.id)
    assert task == replace(
        TASK,
        state=TaskState.REPLIED,
        reply_sha256=hashlib.sha256(REPLY).hexdigest(),
        reply_length=1024,
        replied_ms=NOW,
    )
    assert place.runs == ["digits-r1"]


def test_who_looks_while_a_reply_is_written_sees_it_or_looks_before_it(tmp_path: Path) -> None:
    """Else a coordinator decides without it, dies, and finds it there when it comes again."""
    store = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    place = Place(store)
    looked = StoreExchange(StorePlace(store, None, place.replies, SystemClock(), Event()), RUN.id)  # type: ignore[arg-type]
    stamped, seen = Event(), Event()
    found: list[tuple[int, Sequence[Task]]] = []
    asked: list[int] = []

    def look() -> None:
        stamped.wait()
        moment = looked.seen_ms()
        found.append((moment, looked.tasks(TASK.step)))
        seen.set()

    def now_ms() -> int:
        """Asked first whether the piece is in time, and then for the moment of the reply: slowly."""
        asked.append(looked.now_ms())
        if len(asked) == 2:
            stamped.set()
            seen.wait(0.2)
        return asked[-1]

    with store.begin() as tx:
        tx.tasks.put(replace(TASK, deadline_ms=2**53))
    looking = Thread(target=look)
    looking.start()
    place.intake.reply("dev-1", place.piece(), now_ms)
    looking.join()

    ((moment, (task,)),) = found
    with store.read() as tx:
        written = tx.tasks.get(TASK.id)
    assert written is not None
    assert task == written or written.replied_ms >= moment
    store.close()


def test_a_reply_that_is_written_after_the_deadline_is_late(place: Place) -> None:
    moments = iter([TASK.deadline_ms, TASK.deadline_ms + 1])
    answer = place.intake.reply("dev-1", place.piece(), lambda: next(moments))

    assert federated_pb2.ReplyReceipt.FromString(answer).refused.code == "late"
    assert place.state() is TaskState.LATE
    assert place.replies.tasks() == set()


def test_sending_again_changes_nothing_and_says_the_same(place: Place) -> None:
    first = place.send()
    late = NOW + 10**9

    assert place.send(now_ms=late) == first
    assert place.send(10, 20, now_ms=late) == first
    assert place.runs == ["digits-r1"]


def test_a_reply_that_was_whole_when_the_controller_died_counts_when_it_is_sent_again(
    place: Place,
) -> None:
    digest = hashlib.sha256(REPLY).hexdigest()
    place.replies.add(Piece(TASK.id, digest, len(REPLY), 0, REPLY))
    assert place.state() is TaskState.POSTED

    assert place.send(0, 100).complete
    assert place.state() is TaskState.REPLIED


@pytest.mark.parametrize("state", [TaskState.ADMITTED, TaskState.REFUSED, TaskState.SURPLUS])
def test_a_device_that_asks_after_its_reply_was_judged_may_forget_it(
    place: Place, state: TaskState
) -> None:
    with place.store.begin() as tx:
        tx.tasks.put(replace(TASK, state=state, reply_length=1024))

    receipt = place.send()

    assert (receipt.complete, receipt.have) == (True, 1024)
    assert place.replies.tasks() == set()


def test_a_reply_after_its_phase_was_closed_is_late_and_counted_once(place: Place) -> None:
    place.send(0, 500)
    place.close()

    for _ in range(2):
        assert place.send(500).refused.code == "late"
    assert place.state() is TaskState.LATE
    assert place.counted_late() == 1
    assert place.replies.tasks() == set()


class Counting(MemoryStore):
    """Counts transactions that may write."""

    begun = 0

    def begin(self) -> AbstractContextManager[MemoryTransaction]:
        self.begun += 1
        return super().begin()


def test_each_further_piece_of_a_late_reply_costs_no_transaction() -> None:
    store = Counting()
    place = Place(store)
    place.close()
    place.send(0, 500)
    before = store.begun

    for offset in range(20):
        assert place.send(offset, offset + 1).refused.code == "late"

    assert store.begun == before
    assert place.counted_late() == 1


def test_a_reply_after_the_deadline_is_late_though_nobody_has_closed_the_phase(
    place: Place,
) -> None:
    receipt = place.send(now_ms=TASK.deadline_ms + 1)

    assert receipt.refused.code == "late"
    assert place.state() is TaskState.LATE
    assert place.send(now_ms=TASK.deadline_ms).refused.code == "late"


def test_a_reply_at_the_deadline_is_in_time(place: Place) -> None:
    assert place.send(now_ms=TASK.deadline_ms).complete


@pytest.mark.parametrize("changes", [{"device": "dev-2"}, {"task_id": "0" * 32}])
def test_a_task_of_another_device_is_as_unknown_as_none(
    place: Place, changes: dict[str, str]
) -> None:
    receipt = place.send(**changes)  # type: ignore[arg-type]

    assert receipt.refused.code == "unknown-task"
    assert receipt.refused.detail == "this device has no such task"
    assert place.state() is TaskState.POSTED
    assert place.replies.tasks() == set()


def test_a_reply_that_is_too_large_is_refused_before_anything_is_stored(place: Place) -> None:
    receipt = place.send(0, 10, length=TASK.reply_bytes + 1)

    assert receipt.refused.code == "too-large"
    assert "4000 bytes at most" in receipt.refused.detail
    assert place.replies.tasks() == set()
    assert place.state() is TaskState.POSTED


def test_a_reply_with_another_digest_than_it_says_is_refused(place: Place) -> None:
    assert place.send(sha256="0" * 64).refused.code == "damaged"
    assert place.state() is TaskState.POSTED
    assert place.send().complete


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task_id": "../../etc"}, "task_id"),
        ({"task_id": ""}, "task_id"),
        ({"sha256": "abc"}, "sha256"),
        ({"length": 0, "data": b""}, "0 bytes at 0 of 0"),
        ({"offset": 1024, "data": b"x"}, "1 bytes at 1024 of 1024"),
        ({"offset": 2**64 - 1, "data": b"x"}, "1 bytes at"),
    ],
)
def test_what_can_be_no_piece_is_refused_by_name(
    place: Place, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        place.send(**changes)  # type: ignore[arg-type]


def test_bytes_that_are_no_message_are_refused(place: Place) -> None:
    with pytest.raises(InvalidInput, match="can't be read"):
        place.intake.reply("dev-1", b"\xff\xff", lambda: NOW)
    with pytest.raises(InvalidInput, match="can't be read"):
        place.intake.readiness("dev-1", b"\xff\xff", NOW)


def test_who_was_revoked_or_never_enrolled_is_not_listened_to(place: Place) -> None:
    with place.store.begin() as tx:
        tx.devices.put(replace(DEVICE, status=DeviceStatus.REVOKED))

    with pytest.raises(DeviceRevoked):
        place.send()
    with pytest.raises(DeviceUnknown):
        place.send(device="dev-9")
    with pytest.raises(DeviceUnknown):
        place.intake.readiness("dev-9", b"", NOW)


# --- Readiness ------------------------------------------------------------------------------------


def ready(**changes: object) -> federated_pb2.ModelReadiness:
    fields = {
        "model": "digits",
        "version": 3,
        "manifest_sha256": "a" * 64,
        "eligible": True,
        "examples": 200,
        "held_out": 40,
    }
    return federated_pb2.ModelReadiness(**{**fields, **changes})  # type: ignore[arg-type]


def tell(place: Place, *models: federated_pb2.ModelReadiness) -> None:
    payload = federated_pb2.Readiness(models=models).SerializeToString()
    place.intake.readiness("dev-1", payload, NOW)


def test_what_a_device_says_of_its_readiness_replaces_what_it_said_before(place: Place) -> None:
    tell(place, ready(), ready(model="faces", eligible=False, reason="battery"))
    tell(place, ready(eligible=False, examples=2**64 - 1))

    with place.store.read() as tx:
        (digits,) = tx.tasks.readiness("digits")
        assert list(tx.tasks.readiness("faces")) == []
    assert (digits.eligible, digits.reason, digits.held_out) == (False, "not-told", 40)
    assert (digits.told_ms, digits.examples) == (NOW, 2**53)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "Digits!"},
        {"version": 0},
        {"manifest_sha256": "x"},
        {"eligible": False, "reason": "no\nreason"},
        {"eligible": False, "reason": "a" * 65},
    ],
)
def test_a_readiness_that_can_not_be_is_refused(place: Place, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="readiness"):
        tell(place, ready(**wrong))


def test_a_device_tells_of_so_many_models_and_no_more(place: Place) -> None:
    many = [ready(model=f"m{number}") for number in range(MOST_MODELS + 1)]

    with pytest.raises(InvalidInput, match="64 at most"):
        tell(place, *many)
    tell(place, *many[1:])
