"""The exchange of federated runs in memory, with devices in process and a clock that costs no time.

What would be in the controller's store is a ``Ledger``; a ``MemoryExchange`` over it is what one
coordinator process has in its hands. A coordinator that is killed loses its exchange, and the next one
gets another over the same ledger.
"""

import hashlib
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from controller.errors import NotFound
from controller.federated.exchange import Checkpoint, Node, Outcome, PhaseRecord
from controller.federated.run import Run, RunEvent, RunState, step
from controller.federated.settling import require_standing, settled
from controller.federated.task import Task, TaskEvent, TaskState, next_state, node_id
from protos.flower import message_pb2

START_MS: Final = 1_700_000_000_000

Answer = Callable[[message_pb2.Message, Task], bytes | None]
"""What a device does with a message, its arrays put back: the reply; None if it stays silent."""


@dataclass(slots=True)
class MemoryDevice:
    """A device in process.

    Attributes:
        answer: what it does.
        takes_ms: from being told to having replied, of the simulated clock.
        writes_ms: so long after that it takes until the reply is written, and to be seen.
        away_ms: since when it has had no link.
    """

    name: str
    answer: Answer
    takes_ms: int = 100
    writes_ms: int = 0
    connected: bool = True
    eligible: bool = True
    reason: str = ""
    examples: int = 100
    away_ms: int = 0

    @property
    def id(self) -> int:
        """As Flower names it."""
        return node_id(self.name)


@dataclass
class Ledger:
    """What survives both processes."""

    run: Run
    devices: dict[int, MemoryDevice]
    now_ms: int = START_MS
    blobs: dict[str, bytes] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    replies: dict[str, bytes] = field(default_factory=dict)
    phases: list[PhaseRecord] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    final_sha256: str = ""
    due: list[tuple[int, int, str]] = field(default_factory=list)
    """Replies under way: when, in which order they were told, to which task."""
    told: int = 0

    def answer(self, task: str, reply: bytes) -> None:
        """A whole reply has come: the first one is kept, if it is in time."""
        asked = self.tasks[task]
        after = next_state(asked.state, TaskEvent.REPLY)
        if after is None:
            return
        self.tasks[task] = replace(asked, state=after)
        if after is TaskState.REPLIED:
            digest = hashlib.sha256(reply).hexdigest()
            self.replies[task] = reply
            self.tasks[task] = replace(
                self.tasks[task],
                reply_sha256=digest,
                reply_length=len(reply),
                replied_ms=self.now_ms,
            )
        else:
            self.phases = [
                replace(one, late=one.late + 1) if one.step == asked.step else one
                for one in self.phases
            ]

    def written_ms(self, task: Task) -> int:
        """When its reply was, or will be, there to be seen; 0 where there is none that waits."""
        if task.state is not TaskState.REPLIED or task.node not in self.devices:
            return 0
        return task.replied_ms + self.devices[task.node].writes_ms

    def pass_time(self, milliseconds: int) -> None:
        """The clock goes on until the next reply has come, or for so long."""
        until = self.now_ms + milliseconds
        if not self.due or self.due[0][0] > until:
            self.now_ms = until
            return
        at, _, task = heapq.heappop(self.due)
        self.now_ms = max(self.now_ms, at)
        asked = self.tasks[task]
        reply = self.devices[asked.node].answer(self._whole(asked), asked)
        if reply is not None:
            self.answer(task, reply)

    def _whole(self, task: Task) -> message_pb2.Message:
        message = message_pb2.Message.FromString(task.message)
        for reference in task.arrays:
            record = message_pb2.ArrayRecord.FromString(self.blobs[reference.sha256])
            message.content.items.add(key=reference.key, array_record=record)
        return message


class MemoryExchange:
    """One coordinator's ``Exchange`` over a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @property
    def run(self) -> Run:
        """As it stands now."""
        return self.ledger.run

    def nodes(self) -> Sequence[Node]:
        """By node id."""
        return [
            Node(
                node,
                one.name,
                one.connected,
                one.eligible,
                one.reason,
                one.examples,
                0 if one.connected else one.away_ms,
            )
            for node, one in sorted(self.ledger.devices.items())
        ]

    def put_arrays(self, record: bytes) -> str:
        """Its SHA-256."""
        digest = hashlib.sha256(record).hexdigest()
        self.ledger.blobs[digest] = record
        return digest

    def arrays(self, sha256: str) -> bytes:
        """What was put. Raises ``NotFound``."""
        if sha256 not in self.ledger.blobs:
            raise NotFound(f"{self.run.id}: no arrays {sha256}")
        return self.ledger.blobs[sha256]

    def post(self, tasks: Sequence[Task]) -> None:
        """Those that are there stay."""
        ledger = self.ledger
        for task in tasks:
            if task.id in ledger.tasks:
                continue
            ledger.tasks[task.id] = task
            device = ledger.devices.get(task.node)
            if device is not None and device.connected:
                ledger.told += 1
                heapq.heappush(ledger.due, (ledger.now_ms + device.takes_ms, ledger.told, task.id))

    def tasks(self, step: int) -> Sequence[Task]:
        """By node id."""
        ledger = self.ledger
        found = [
            replace(task, state=TaskState.POSTED, reply_sha256="", reply_length=0, replied_ms=0)
            if ledger.written_ms(task) > ledger.now_ms
            else task
            for task in ledger.tasks.values()
            if task.step == step
        ]
        return sorted(found, key=lambda task: task.node)

    def reply(self, task: str) -> bytes:
        """The stored reply. Raises ``NotFound``."""
        if task not in self.ledger.replies:
            raise NotFound(f"{self.run.id}: no reply to {task}")
        return self.ledger.replies[task]

    def close(
        self, outcomes: Sequence[Outcome], record: PhaseRecord, checkpoint: Checkpoint | None
    ) -> None:
        """All at once; a phase that is closed already stays as it is."""
        ledger = self.ledger
        if any(one.step == record.step for one in ledger.phases):
            return
        require_standing((ledger.tasks[one.task], one) for one in outcomes)
        for outcome in outcomes:
            task = ledger.tasks[outcome.task]
            ledger.tasks[task.id] = settled(task, outcome)
            if not ledger.run.app:
                ledger.replies.pop(task.id, None)
        late = [one.step for one in ledger.tasks.values() if one.state is TaskState.LATE]
        ledger.phases.append(replace(record, late=late.count(record.step)))
        if checkpoint is not None:
            ledger.checkpoint = checkpoint
            ledger.run = replace(ledger.run, round=checkpoint.round)

    def phases(self) -> Sequence[PhaseRecord]:
        """In order."""
        return sorted(self.ledger.phases, key=lambda record: record.step)

    def checkpoint(self) -> Checkpoint | None:
        """The newest."""
        return self.ledger.checkpoint

    def finish(self, arrays_sha256: str) -> None:
        """The run is done."""
        self.ledger.final_sha256 = arrays_sha256
        _happens(self.ledger, RunEvent.FINISHED)
        self.ledger.run = replace(self.ledger.run, arrays_sha256=arrays_sha256)

    def fail(self, error: str) -> None:
        """The run can't go on."""
        _happens(self.ledger, RunEvent.FAILED)
        self.ledger.run = replace(self.ledger.run, error=error)

    def wait(self, seconds: float) -> None:
        """The simulated clock goes on."""
        self.ledger.pass_time(max(1, round(seconds * 1000)))

    def now_ms(self) -> int:
        """The simulated clock."""
        return self.ledger.now_ms

    def seen_ms(self) -> int:
        """Nothing is being written then."""
        ledger = self.ledger
        ledger.now_ms = max(ledger.now_ms, *map(ledger.written_ms, ledger.tasks.values()), 0)
        return ledger.now_ms


def _happens(ledger: Ledger, event: RunEvent) -> None:
    run = ledger.run
    if (run.state, event) == (RunState.FINISHED, RunEvent.FINISHED):
        return
    ledger.run = replace(run, state=step(run.id, run.state, event))


def ledger_of(run: Run, devices: Sequence[MemoryDevice]) -> Ledger:
    """An empty ledger of a run with these devices."""
    return Ledger(run, {device.id: device for device in devices})
