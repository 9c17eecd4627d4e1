"""What `muster-agent status` tells: read beside a running agent, without disturbing it."""

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from agent.errors import NotEnrolled
from agent.facts import agent_version
from agent.federated.readiness.message import Told
from agent.federated.record import Task
from agent.home import Home
from agent.identity import keys
from agent.install.gates import detail_of
from agent.install.record import Install, Slot
from agent.link_note import LinkState, read_link
from agent.serving.server import told_ports
from agent.store.database import LOCK_NAME
from agent.store.device_store import Quarantine
from agent.store.sqlite_store import SqliteStore
from agent.training_note import read_training


@dataclass(frozen=True, slots=True)
class Status:
    """How things stand. ``ports`` is empty while no agent runs.

    ``link`` is how the link to the controller stands; if no agent runs, how it stood when one did
    last; None if nothing is known. ``quarantines`` are the versions that failed here and are kept out.
    ``training`` is what can be learnt here and whether it would be now; ``task`` is what was asked last.
    """

    device: str
    controller: str
    broker: str
    certificate_until: str
    certificate_expired: bool
    agent_version: str
    generation: int
    ports: dict[str, int]
    link: LinkState | None
    slots: Sequence[Slot]
    installs: Sequence[Install]
    quarantines: Sequence[Quarantine]
    training: Sequence[Told]
    task: Task | None
    waiting: int
    dropped: dict[str, int]

    @property
    def running(self) -> bool:
        """Whether an agent runs in this folder."""
        return bool(self.ports)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"running": self.running, **msgspec.to_builtins(self)}

    def lines(self) -> list[str]:
        """For people."""
        where = "not running: `muster-agent run`"
        if self.running:
            where = f"running: {told_ports(self.ports)}"
        broker = f", broker {self.broker}" if self.broker else ""
        answers = "runs       " if self.running else "at rest    "
        until = f"certificate until {self.certificate_until}"
        if self.certificate_expired:
            until = f"certificate expired at {self.certificate_until}"
        said = f"{waiting(self.waiting)} for the controller"
        if self.dropped:
            said += "; dropped " + ", ".join(f"{n} {kind}" for kind, n in self.dropped.items())
        return [
            f"device      {self.device}, agent {self.agent_version}, {where}",
            f"controller  {self.controller}{broker}; {until}",
            f"link        {link_line(self.link, running=self.running)}",
            f"directive   generation {self.generation}",
            *(f"{answers} {_slot(slot)}" for slot in self.slots),
            *(f"install     {_install(one)}" for one in self.installs),
            *(f"kept out    {_kept_out(one)}" for one in self.quarantines),
            *(f"training    {_training(one)}" for one in self.training),
            *(f"task        {_task(one)}" for one in (self.task,) if one is not None),
            f"telemetry   {said}",
        ]


def read_status(home: Home, now: datetime) -> Status:
    """The status of the agent in ``home`` at ``now``.

    Raises:
        NotEnrolled: there is none.
        StoreError: its files can't be read.
    """
    if not home.path.is_dir():
        raise NotEnrolled(f"{home.path}: there is no agent")
    store = SqliteStore(home.path, read_only=True)
    try:
        identity = store.identity.load()
        if identity is None:
            raise NotEnrolled(f"{home.path}: this machine is not enrolled")
        certificate = keys.read_certificate(identity.certificate_pem)
        return Status(
            device=identity.device,
            controller=identity.session_address,
            broker=identity.broker_address,
            certificate_until=f"{certificate.not_after:%Y-%m-%d %H:%M}",
            certificate_expired=certificate.not_after <= now,
            agent_version=agent_version(),
            generation=store.installs.generation(),
            ports=read_ports(home),
            link=read_link(home.link),
            slots=store.installs.slots(),
            installs=[
                replace(one, detail=detail_of(one, now.timestamp()))
                for one in store.installs.installs()
            ],
            quarantines=store.installs.quarantines(),
            training=read_training(home.training),
            task=store.journal.load().task,
            waiting=len(store.spool),
            dropped=dict(store.spool.dropped()),
        )
    finally:
        store.close()


def read_ports(home: Home) -> dict[str, int]:
    """Where the running agent answers; empty if none runs."""
    try:
        ports = json.loads(home.ports.read_bytes())
        pid = int(ports["pid"])
        found = {name: int(ports[name]) for name in ("rest", "grpc") if name in ports}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if "rest" in found and pid and pid == _holder(home) else {}


def _holder(home: Home) -> int:
    """The process that holds the folder; 0 if none does.

    A number in a file outlives its process and is given to another one; a lock does not outlive it.
    """
    try:
        lock = os.open(home.path / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        written = os.pread(lock, 20, 0)
        return int(written) if written.isdigit() else 0
    except OSError:
        return 0
    finally:
        os.close(lock)  # and so lets go of it, if it was free
    return 0


def link_line(link: LinkState | None, *, running: bool) -> str:
    """How the link stands, for people."""
    if link is None:
        return "nothing is known of it yet"
    since = f"{datetime.fromtimestamp(link.since, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if link.up:
        by = f", over {link.via}," if link.via else ""  # an older agent's note does not say
        return f"up{by} since {since}" if running else "down: no agent runs"
    if not link.code:
        return f"not up yet, since {since}" if running else "down: no agent runs"
    why = f"{link.code}: {link.detail}"
    return f"down since {since}: {why}" if running else f"down; when the agent ran last: {why}"


def waiting(records: int) -> str:
    """How many records wait, for people."""
    return f"{records} record waits" if records == 1 else f"{records} records wait"


def _slot(slot: Slot) -> str:
    active = slot.active
    if active is None:
        return f"{slot.model} ({slot.name}): nothing"
    proven = "proven" if active == slot.committed else "on probation"
    return (
        f"{active.model}/{active.version} ({slot.name}), {proven}, "
        f"{active.approvals} approval{'s' * (active.approvals != 1)}, model {active.model_sha256[:12]}"
    )


def _install(one: Install) -> str:
    why = f": {one.code}: {one.detail}" if one.code else ""
    return f"{one.model}/{one.version} ({one.slot}) {one.state}{why}"


def _kept_out(one: Quarantine) -> str:
    what = f"{one.model}/{one.version}" if one.model else f"manifest {one.manifest_sha256[:12]}"
    why = f"{one.code}: {one.detail}" if one.detail else one.code
    return f"{what} since {datetime.fromtimestamp(one.at, UTC):%Y-%m-%d %H:%M} UTC: {why}"


def _training(one: Told) -> str:
    held = f"{one.examples} examples, {one.held_out} held out"
    now = f"not now: {one.code}: {one.words}" if one.code else "ready"
    return f"{one.model}/{one.version}, {held}; {now}"


def _task(one: Task) -> str:
    why = f": {one.code}: {one.detail}" if one.code else ""
    on = f" on {one.examples} examples" if one.examples else ""
    said = f"{one.run} round {one.round}, {one.phase} {one.model}/{one.version}{on}"
    return f"{said}, {one.state} since {datetime.fromtimestamp(one.since, UTC):%Y-%m-%d %H:%M:%S} UTC{why}"
