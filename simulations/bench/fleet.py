"""What a connected agent costs the controller, and how soon a directive has reached everybody.

The controller is a process as ``muster serve`` starts it; the agents' ends of the sessions are the
agent's own, all in this process, over loopback and TLS. The bare thing is a server of gRPC streams.
"""

import asyncio
import contextlib
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from agent.clock import SystemClock
from agent.facts import read_facts
from agent.transport import controller_client
from agent.transport.connection import Connection
from agent.transport.grpc.channel import OPTIONS
from agent.transport.grpc.link import GrpcDialer
from agent.transport.link import Link
from agent.transport.route import Route
from controller.cli.client import ApiClient
from controller.cli.profile import read_profile
from controller.home import Home
from controller.rollout.policy import AT_ONCE
from protos.limits import KIB, MIB
from protos.v1 import command_pb2
from simulations.bench.bare_streams import PATH
from simulations.bench.invited import Member, certificates_of, invite
from simulations.bench.process import Weight, activities, weight
from simulations.bench.row import BenchRow
from simulations.bench.staged import load_note, publish_digits, staged
from simulations.demo.operator import MODEL
from simulations.demo.processes import ProcessFailed
from simulations.demo.stage import Stage

# Quoted: at run time, gRPC's classes take no parameters.
Stream: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"

AGENTS: Final = 1000
SPARE_FILES: Final = 200
AT_A_TIME: Final = 50
ROLLOUTS: Final = 3
CALM_SHARE: Final = 0.02
WAIT_SECONDS: Final = 120.0
TARGET_KIB: Final = 80.0
TARGET_SECONDS: Final = 2.0


class Crowd:
    """The agents' ends: counts who is up, and who was told."""

    def __init__(self) -> None:
        self.up = 0
        self.told: set[str] = set()
        self.bytes = 0
        self._news = asyncio.Event()

    def came_up(self) -> None:
        """One more is connected."""
        self.up += 1
        self._news.set()

    def was_told(self, device: str, size: int) -> None:
        """A directive of ``size`` bytes has come."""
        self.told.add(device)
        self.bytes = size
        self._news.set()

    async def until_up(self, agents: int) -> None:
        """Returns once so many are connected.

        Raises:
            ProcessFailed: it takes too long.
        """
        await self.until("connecting", lambda: self.up >= agents)

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Returns once ``holds``.

        Raises:
            ProcessFailed: it takes too long.
        """
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise ProcessFailed(
                f"{what}: {self.up} up, {len(self.told)} told after {WAIT_SECONDS:.0f} s"
            ) from error


def rows() -> list[BenchRow]:
    """Of a controller with as many agents as files may be open, ``AGENTS`` at most."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    agents = min(AGENTS, most - SPARE_FILES)
    with staged(0) as (stage, operator):
        stage.found()
        publish_digits(operator)
        stage.controller.stop()
        home = Home(stage.home)
        members = invite(home, agents)
        stage.start_controller()
        ours, bare = asyncio.run(_both(stage, home, members))
    return [
        _memory_row(agents, ours, bare),
        _directive_row(agents, ours, bare),
        BenchRow(
            f"fleet: {agents} agents connect",
            ours.connect_seconds,
            "s",
            None,
            f"{ours.connect_seconds / bare.connect_seconds:.1f} x bare streams "
            f"({bare.connect_seconds:.1f} s)",
            f"{AT_A_TIME} at once; admitted, facts stored, told; both ends share the cores",
        ),
    ]


async def _both(
    stage: Stage, home: Home, members: Sequence[Member]
) -> tuple["_Measured", "_Measured"]:
    """On one event loop: gRPC's poller outlives none."""
    ours = await _measured(stage, home, members)
    # Nobody is there any more to be told good-bye, and the bare thing shall have the machine alone.
    await asyncio.to_thread(stage.controller.kill)
    return ours, await _bare(home, members, ours.directive_bytes)


class _Measured:
    """What one server was seen to do."""

    def __init__(self) -> None:
        self.before = self.after = Weight(0.0, 0.0, 0.0, 0.0)
        self.connect_seconds = 0.0
        self.reach_seconds: list[float] = []
        self.directive_bytes = 0

    def each(self, agents: int) -> float:
        """KiB of resident memory for every agent."""
        return (self.after.resident - self.before.resident) * MIB / KIB / agents


# --- The controller ---------------------------------------------------------------------------------


async def _measured(stage: Stage, home: Home, members: Sequence[Member]) -> _Measured:
    found = _Measured()
    pid = stage.controller.pid
    await _calm(pid)
    found.before = weight(pid)
    crowd = Crowd()
    ca = certificates_of(home).server_authority.certificate_pem
    async with asyncio.TaskGroup() as group:
        began = time.monotonic()
        tasks = []
        for number, member in enumerate(members, 1):
            connection = _connection(member, ca, home.path, crowd)
            tasks.append(group.create_task(connection.run()))
            if number % AT_A_TIME == 0:
                await crowd.until_up(number)
        await crowd.until_up(len(members))
        found.connect_seconds = time.monotonic() - began
        await _calm(pid)
        found.after = weight(pid)
        for _ in range(ROLLOUTS):
            found.reach_seconds.append(await _rolled_out(stage, members, crowd))
            await _calm(pid)
        found.directive_bytes = crowd.bytes
        for task in tasks:
            task.cancel()
    return found


def _connection(member: Member, ca_pem: bytes, folder: Path, crowd: Crowd) -> Connection:
    async def on_command(command: bytes) -> None:
        if command_pb2.Command.FromString(command).WhichOneof("kind") == "directive":
            crowd.was_told(member.device, len(command))

    async def on_up(link: Link) -> None:
        await controller_client.publish_facts(link, read_facts(folder))
        crowd.came_up()

    dialer = GrpcDialer(
        member.session_address, ca_pem, member.key_pem, lambda: member.certificate_pem
    )
    rng = random.Random(member.device)  # noqa: S311 - jitter, not secrets
    return Connection([Route("grpc", dialer)], SystemClock(), rng, on_command, on_up)


async def _rolled_out(stage: Stage, members: Sequence[Member], crowd: Crowd) -> float:
    """Seconds from the request for a rollout until every agent has its directive.

    Nobody installs it: the rollout is aborted, which makes a directive for everybody again.
    """
    with ApiClient(read_profile(stage.folder / "profile.toml")) as api:
        crowd.told.clear()
        policy = AT_ONCE.model_dump(mode="json")
        wish = {"version": f"{MODEL}/1", "selector": "all", "policy": policy}
        began = time.monotonic()
        started = asyncio.create_task(asyncio.to_thread(api.post, "/rollouts", wish))
        await crowd.until("a directive", lambda: len(crowd.told) == len(members))
        took = time.monotonic() - began
        rollout = (await started)["id"]
        crowd.told.clear()
        await asyncio.to_thread(api.post, f"/rollouts/{rollout}/abort", {"how": "revert"})
        await crowd.until("its withdrawal", lambda: len(crowd.told) == len(members))
    return took


async def _calm(pid: int) -> None:
    """Returns once the process does next to nothing."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (await asyncio.to_thread(activities, [pid], 1.0))[0].share > CALM_SHARE:
            pass


# --- The bare thing ---------------------------------------------------------------------------------


async def _bare(home: Home, members: Sequence[Member], message: int) -> _Measured:
    found = _Measured()
    ca = certificates_of(home).server_authority.certificate_pem
    host = members[0].session_address.rpartition(":")[0]
    with _bare_server(home, host) as (process, port):
        await _calm(process.pid)
        found.before = weight(process.pid)
        crowd = Crowd()
        async with contextlib.AsyncExitStack() as streams, asyncio.TaskGroup() as group:
            began = time.monotonic()
            tasks: list[asyncio.Task[None]] = []
            for first in range(0, len(members), AT_A_TIME):
                opening = [
                    streams.enter_async_context(_stream(f"{host}:{port}", ca, member))
                    for member in members[first : first + AT_A_TIME]
                ]
                for stream in await asyncio.gather(*opening):
                    tasks.append(group.create_task(_listen(stream, crowd, str(len(tasks)))))
            found.connect_seconds = time.monotonic() - began
            await _calm(process.pid)
            found.after = weight(process.pid)
            for _ in range(ROLLOUTS):
                crowd.told.clear()
                began = time.monotonic()
                _tell(process, f"{message}\n".encode())
                await crowd.until("a message", lambda: len(crowd.told) == len(members))
                found.reach_seconds.append(time.monotonic() - began)
            for task in tasks:
                task.cancel()
    return found


@asynccontextmanager
async def _stream(address: str, ca_pem: bytes, member: Member) -> AsyncIterator[Stream]:
    credentials = grpc.ssl_channel_credentials(ca_pem, member.key_pem, member.certificate_pem)
    async with grpc.aio.secure_channel(address, credentials, options=OPTIONS) as channel:
        stream: Stream = channel.stream_stream(PATH)()
        await stream.initial_metadata()
        yield stream
        stream.cancel()


async def _listen(stream: Stream, crowd: Crowd, name: str) -> None:
    while isinstance(message := await stream.read(), bytes):
        crowd.was_told(name, len(message))


@contextmanager
def _bare_server(home: Home, host: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "simulations.bench.bare_streams", str(home.certificates), host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        line = process.stdout.readline() if process.stdout is not None else b""
        if not line:
            raise ProcessFailed("the bare server did not start")
        yield process, int(line)
    finally:
        process.kill()
        process.communicate()


def _tell(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    if process.stdin is None:
        raise ProcessFailed("the bare server has no standard input")
    process.stdin.write(line)
    process.stdin.flush()


# --- Rows -------------------------------------------------------------------------------------------


def _memory_row(agents: int, ours: _Measured, bare: _Measured) -> BenchRow:
    return BenchRow(
        f"fleet: controller's memory, each of {agents} agents",
        ours.each(agents),
        "KiB",
        TARGET_KIB,
        f"{ours.each(agents) / bare.each(agents):.2f} x a bare gRPC stream over mTLS "
        f"({bare.each(agents):.1f} KiB)",
        f"resident {ours.before.resident:.0f} MiB before, {ours.after.resident:.0f} MiB after",
    )


def _directive_row(agents: int, ours: _Measured, bare: _Measured) -> BenchRow:
    middle, alone = statistics.median(ours.reach_seconds), statistics.median(bare.reach_seconds)
    return BenchRow(
        f"fleet: a directive reaches all {agents} agents",
        middle,
        "s",
        TARGET_SECONDS,
        f"{middle / alone:.1f} x as many bytes on bare streams ({alone:.2f} s)",
        f"from the request: planned, {agents} signed, stored, sent; median of {ROLLOUTS} rollouts, "
        f"slowest {max(ours.reach_seconds):.2f} s; {load_note()}",
    )
