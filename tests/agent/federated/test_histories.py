"""Orders, cuts, restarts and refusals in any order: what a device promises holds in every history."""

import asyncio
import random
from collections import defaultdict

import pytest

from agent.errors import AgentError
from agent.federated.errors import NotFinite
from agent.federated.machine import FINAL, State
from agent.federated.reply import FlowerError
from protos.v1 import federated_pb2
from simulations.memory_intake import MemoryIntake
from simulations.power import Power
from tests.agent.federated.world import NOTHING, Device, Orders, parameters, read_reply


class Witness(MemoryIntake):
    """Remembers which replies it was offered for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.offered: defaultdict[str, set[str]] = defaultdict(set)

    def take(self, piece: federated_pb2.ReplyPiece) -> federated_pb2.ReplyReceipt:
        self.offered[piece.task_id].add(piece.sha256)
        return super().take(piece)


class History:
    """A device's life, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - chance that a test can repeat
        self.intake = Witness()
        self.device = Device(self.intake)
        self.orders = Orders(self.intake)
        self.tasks = 0
        self.wanted = NOTHING

    async def live(self, lives: int) -> None:
        for _ in range(lives):
            power = Power(self.chance.choice([None, None, self.chance.randrange(60)]))
            async with self.device.agent(power) as loop:
                loop.take(self.wanted)
                for _ in range(self.chance.randrange(1, 9)):
                    self._happen()
                    for _ in range(self.chance.randrange(40)):
                        await asyncio.sleep(0)
                    if power.gone:
                        break

    def _happen(self) -> None:
        device, chance = self.device, self.chance
        match chance.randrange(9):
            case 0 | 1:
                self._order()
            case 2:
                self.wanted = NOTHING
                device.loop.take(NOTHING)
            case 3:
                device.loop.take(self.wanted)  # as after a link that came up
            case 4:
                device.uplink.up = chance.random() < 0.5
            case 5:
                device.uplink.up = True
                device.loop.link_up()
            case 6:
                device.clock.go(chance.choice([0.5, 5.0, 70.0]))
            case 7:
                errors: list[AgentError | None] = [None, None, NotFinite("a loss")]
                device.trainer.fails = chance.choice(errors)
            case _:
                if chance.random() < 0.3:
                    self.intake.unwanted[f"t{self.tasks}"] = "late"
                if chance.random() < 0.5:
                    device.trainer.gate.clear()
                else:
                    device.trainer.gate.set()

    def _order(self) -> None:
        self.tasks += 1
        phase = self.chance.choice(["train", "train", "evaluate", "query"])
        self.wanted = self.orders.task(
            f"t{self.tasks}",
            phase=phase,
            parameters=parameters(self.tasks % 3),
            seconds=self.chance.choice([0.2, 20.0, 600.0]),
            seed=self.tasks,
        )
        self.device.loop.take(self.wanted)

    async def end(self) -> None:
        """All is well from now on; the device is told what it shall do, as by every link."""
        self.device.trainer.gate.set()
        self.device.trainer.fails = None
        async with self.device.agent() as loop:
            loop.take(self.wanted)
            await self.device.in_time(lambda: loop.is_settled)


@pytest.mark.parametrize("seed", range(60))
async def test_in_every_history(seed: int) -> None:
    history = History(seed)
    await history.live(6)
    await history.end()

    device, intake = history.device, history.intake
    for told, replies in intake.offered.items():
        assert len(replies) == 1 or told in intake.unwanted, "two replies to one task"
    task = device.journal.task
    assert task is None or task.state in FINAL
    if history.wanted is not NOTHING and history.wanted.task.task_id not in intake.unwanted:
        assert task is not None
        assert (task.id, task.state) == (history.wanted.task.task_id, State.DONE)
        assert task.id in intake.replies
    for reply in intake.replies.values():
        read = read_reply(reply)
        assert read.HasField("content") != read.HasField("error")
        assert not read.HasField("error") or read.error.code in set(FlowerError)
    assert set(device.blobs.complete) == set(device.journal.blobs())
    assert not device.clock.sleepers
