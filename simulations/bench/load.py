"""The devices' ends of a fleet's links, in a process of their own.

``python -m simulations.bench.load PLAN``: does what lines on its stdin say, and answers with lines on
its stdout; see ``load_orders``. Ends when its stdin is closed. The links are the agent's own.
"""

import asyncio
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent.clock import SystemClock
from agent.errors import TransportError
from agent.facts import read_facts
from agent.transport import controller_client
from agent.transport.grpc.link import GrpcDialer
from agent.transport.link import Dialer, Link
from agent.transport.mqtt.dialer import DeviceAccess, MqttDialer
from controller.descriptors import raise_limit
from protos.mqtt.broker import Broker
from protos.v1 import command_pb2, common_pb2, telemetry_pb2
from simulations.bench import windows
from simulations.bench.invited import Member
from simulations.bench.load_orders import (
    Answer,
    Connect,
    Connected,
    Flood,
    Hear,
    Order,
    Plan,
    Ready,
    Report,
    Reported,
    Told,
)
from simulations.bench.wire import carried_with

ATTEMPTS: Final = 5


class Player:
    """One device: its link, and what it sends."""

    link: Link

    def __init__(
        self, member: Member, dialer: Dialer, spool: str, window: telemetry_pb2.Window
    ) -> None:
        self.device = member.device
        self._dialer = dialer
        self._window = window
        self._spool = spool
        self._sequence = 0

    async def connect(self, facts: common_pb2.DeviceFacts) -> int:
        """Returns once the controller has taken the device and its facts; how often it dialled in
        vain.
        """  # noqa: D205 - it does not fit one line
        for again in itertools.count():
            try:
                self.link = await self._dialer.dial()
                break
            except TransportError:
                if again == ATTEMPTS:
                    raise
        await controller_client.publish_facts(self.link, facts)
        return again

    async def listen(self, on_directive: Callable[[str], None]) -> None:
        """Until the link ends, which it raises."""
        async for command in self.link.commands():
            if command_pb2.Command.FromString(command).WhichOneof("kind") == "directive":
                on_directive(self.device)

    async def report(self) -> None:
        """Sends one window, and what the agent takes; returns when the controller has both."""
        request = telemetry_pb2.UploadRequest(spool_id=self._spool)
        now_ms = time.time_ns() // 1_000_000
        for _ in range(2):
            self._sequence += 1
            request.records.add(sequence=self._sequence, recorded_ms=now_ms)
        record = request.records[0]
        record.window.CopyFrom(self._window)
        record.window.started_ms, record.window.ended_ms = now_ms - 60_000, now_ms
        record.window.window_id = f"{self._spool}-{self._sequence}"
        request.records[1].resources.CopyFrom(windows.resources())
        reply = await controller_client.upload(self.link, request)
        if reply.stored_through != self._sequence:
            raise ArithmeticError(f"stored through {reply.stored_through} of {self._sequence}")


class Crew:
    """All of them."""

    def __init__(self, plan: Plan, group: asyncio.TaskGroup) -> None:
        rng = random.Random(7)  # noqa: S311 - data that every run has alike
        window = windows.window(rng, 0)
        self._players = [
            Player(one, _dialer(plan, one), plan.transport, window) for one in plan.members
        ]
        self._away: Sequence[Player] = self._players
        self._port = int(plan.address.rpartition(":")[2])
        self._group = group
        self._told: dict[str, float] | None = None
        self._all_told = asyncio.Event()

    async def connect(self, order: Connect) -> Connected:
        """Returns when they are."""
        with tempfile.TemporaryDirectory() as folder:
            facts = read_facts(Path(folder))
        again = 0

        async def one(player: Player) -> None:
            nonlocal again
            again += await player.connect(facts)
            self._group.create_task(player.listen(self._hear))

        coming, self._away = self._away[: order.devices], self._away[order.devices :]
        seconds = await _some_at_a_time(order.at_a_time, coming, one)
        return Connected(seconds, again)

    async def hear(self, ready: Callable[[], None]) -> Told:
        """Returns when all have a directive that came after ``ready``."""
        self._all_told.clear()
        self._told = {}
        ready()
        await self._all_told.wait()
        told, self._told = self._told, None
        return Told(list(told.values()))

    async def report(self, order: Report) -> Reported:
        """Returns when all windows are stored."""
        count = order.rounds * len(self._players)
        before, began = carried_with(self._port), time.monotonic()
        latencies: list[float] = []

        async def one(player: Player, due: float) -> None:
            await player.report()
            latencies.append(time.monotonic() - due)

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                due = began + number * order.every / len(self._players)
                await asyncio.sleep(due - time.monotonic())
                group.create_task(one(self._players[number % len(self._players)], due))
        seconds, after = time.monotonic() - began, carried_with(self._port)
        sent, received = after.sent - before.sent, after.received - before.received
        return Reported(seconds, latencies, sent, received)

    async def flood(self, order: Flood) -> Reported:
        """Returns when all windows are stored."""
        players = self._players[: order.devices]
        before = carried_with(self._port)
        latencies: list[float] = []

        async def one(player: Player) -> None:
            began = time.monotonic()
            await player.report()
            latencies.append(time.monotonic() - began)

        seconds = await _some_at_a_time(order.at_a_time, players, one)
        after = carried_with(self._port)
        sent, received = after.sent - before.sent, after.received - before.received
        return Reported(seconds, latencies, sent, received)

    def _hear(self, device: str) -> None:
        if self._told is None:
            return
        self._told.setdefault(device, time.monotonic())
        if len(self._told) == len(self._players):
            self._all_told.set()


async def _some_at_a_time(
    workers: int, players: Sequence[Player], do: Callable[[Player], Awaitable[None]]
) -> float:
    """Has each do it; returns in how many seconds."""
    began = time.monotonic()
    left = iter(players)

    async def worker() -> None:
        for player in left:
            await do(player)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())
    return time.monotonic() - began


def _dialer(plan: Plan, member: Member) -> Dialer:
    if plan.transport == "grpc":
        return GrpcDialer(
            plan.address, plan.server_ca, member.key_pem, lambda: member.certificate_pem
        )
    sessions = itertools.count(1)
    access = DeviceAccess(
        member.device,
        Broker(plan.address, plan.broker_ca),
        plan.server_ca,
        member.key_pem,
        lambda: member.certificate_pem,
        lambda: next(sessions),
    )
    rng = random.Random(member.device)  # noqa: S311 - which controller, not secrets
    return MqttDialer(access, SystemClock(), rng, lambda _: None)


async def _play(plan: Plan) -> None:
    async with asyncio.TaskGroup() as group:
        crew = Crew(plan, group)
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            match msgspec.json.decode(line, type=Order):
                case Connect() as order:
                    _say(await crew.connect(order))
                case Hear():
                    _say(await crew.hear(lambda: _say(Ready())))
                case Report() as order:
                    _say(await crew.report(order))
                case Flood() as order:
                    _say(await crew.flood(order))
        raise SystemExit(0)


def _say(answer: Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    raise_limit()
    asyncio.run(_play(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)))
