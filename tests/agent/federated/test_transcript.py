"""What a device's log tells of its part in runs, kept word for word.

``python -m tests.agent.federated.test_transcript`` writes it anew; read what it wrote.
"""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

from agent.federated.errors import WorseOnHoldOut
from agent.federated.machine import State
from agent.install.gates import Battery, Circumstances
from tests.agent.federated.world import NOTHING, START, Device, Orders, parameters

GOLDEN = Path(__file__).parent / "golden" / "device.txt"


class Transcript(logging.Handler):
    """The log's lines, with headings, and what the controller's log is told between them."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"  {record.levelname.lower():8}{record.getMessage()}")

    def heading(self, words: str) -> None:
        self.lines += ["", words]

    def tell(self) -> None:
        """What has happened, and what the controller has of it by now."""
        for one in self._device.happened:
            self.lines.append(f"  told    {one.name} code={one.code or '-'}: {one.detail}")
        self._device.happened.clear()
        task = self._device.journal.task
        if task is not None:
            sizes = [size for of, _, size in self._device.intake.pieces if of == task.id]
            whole = task.id in self._device.intake.replies
            self.lines.append(f"  sent    pieces={sizes} whole={whole}")


async def transcript() -> str:
    device = Device()
    orders, told = Orders(device.intake), Transcript(device)
    log = logging.getLogger("agent.federated")
    before = log.level
    log.addHandler(told)
    log.setLevel(logging.INFO)
    try:
        await rounds(device, orders, told)
        await troubles(device, orders, told)
    finally:
        log.removeHandler(told)
        log.setLevel(before)
    return "\n".join(told.lines).strip() + "\n"


async def rounds(device: Device, orders: Orders, told: Transcript) -> None:
    async with device.agent() as loop:
        told.heading("It trains, and the controller says that there is nothing more.")
        loop.take(orders.task("train-1"))
        await device.until(lambda: loop.is_settled)
        loop.take(NOTHING)
        await device.until(lambda: loop.is_settled)
        told.tell()

        told.heading("It evaluates the next parameters.")
        loop.take(orders.task("eval-1", phase="evaluate", parameters=parameters(1)))
        await device.until(lambda: loop.is_settled)
        told.tell()

        told.heading("Somebody has pulled its plug.")
        plugged = device.condition
        battery = Circumstances(START, Battery(90, on_mains=False))
        device.condition = replace(plugged, circumstances=battery)
        loop.take(orders.task("train-2", parameters=parameters(1)))
        await device.until(lambda: loop.is_settled)
        told.tell()
        device.condition = plugged

        told.heading("What it learns makes things worse.")
        device.trainer.fails = WorseOnHoldOut("the loss went from 0.4 to 2.5; 0.55 is allowed")
        loop.take(orders.task("train-3", parameters=parameters(1)))
        await device.until(lambda: loop.is_settled)
        told.tell()
        device.trainer.fails = None


async def troubles(device: Device, orders: Orders, told: Transcript) -> None:
    async with device.agent() as loop:
        told.heading("The link is away when it wants the parameters, and comes back.")
        device.uplink.up = False
        loop.take(orders.task("train-4", parameters=parameters(4)))
        await device.until(lambda: device.state == State.FETCHING and bool(device.uplink.calls))
        device.uplink.up = True
        loop.link_up()
        await device.until(lambda: loop.is_settled)
        told.tell()

        told.heading("A newer task comes while it trains, and it is taken back.")
        device.trainer.gate.clear()
        for task in ("train-5", "train-6"):
            device.trainer.begun.clear()
            loop.take(orders.task(task, parameters=parameters(4)))
            await device.trainer.begun.wait()
        loop.take(NOTHING)
        await device.until(lambda: loop.is_settled)
        told.tell()
        device.trainer.begun.clear()

        told.heading("It is killed while it trains.")
        loop.take(orders.task("train-7", parameters=parameters(4)))
        await device.trainer.begun.wait()
        device.trainer.gate.set()
    async with device.agent() as loop:
        await device.until(lambda: loop.is_settled)
        loop.take(orders.task("train-7", parameters=parameters(4)))
        await device.until(lambda: loop.is_settled)
        told.tell()

        told.heading("Its reply comes too late.")
        device.intake.unwanted["train-8"] = "late"
        loop.take(orders.task("train-8", parameters=parameters(4)))
        await device.until(lambda: loop.is_settled)
        told.tell()


async def test_a_devices_log_tells_its_part_in_runs() -> None:
    assert await transcript() == GOLDEN.read_text()


if __name__ == "__main__":
    GOLDEN.write_text(asyncio.run(transcript()))
