"""What `muster-agent status` tells: read beside a running agent, without disturbing it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil

from agent.errors import NotEnrolled
from agent.facts import agent_version
from agent.home import Home
from agent.identity import keys
from agent.install.record import Install, Slot
from agent.store.sqlite_store import SqliteStore

MOST_PID: Final = 2**22  # Linux gives no greater ones


@dataclass(frozen=True, slots=True)
class Status:
    """How things stand. ``ports`` is empty while no agent runs."""

    device: str
    controller: str
    certificate_until: str
    agent_version: str
    generation: int
    ports: dict[str, int]
    slots: Sequence[Slot]
    installs: Sequence[Install]
    waiting: int
    dropped: dict[str, int]

    @property
    def running(self) -> bool:
        """Whether an agent runs in this folder."""
        return bool(self.ports)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"running": self.running, **asdict(self)}

    def lines(self) -> list[str]:
        """For people."""
        where = "not running: `muster-agent run`"
        if self.running:
            where = f"running: REST on port {self.ports['rest']}, gRPC on {self.ports['grpc']}"
        told = f"{self.waiting} records wait for the controller"
        if self.dropped:
            told += "; dropped " + ", ".join(f"{n} {kind}" for kind, n in self.dropped.items())
        return [
            f"device      {self.device}, agent {self.agent_version}, {where}",
            f"controller  {self.controller}; certificate until {self.certificate_until}",
            f"directive   generation {self.generation}",
            *(f"runs        {_slot(slot)}" for slot in self.slots),
            *(f"install     {_install(one)}" for one in self.installs),
            f"telemetry   {told}",
        ]


def read_status(home: Home) -> Status:
    """The status of the agent in ``home``.

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
            certificate_until=f"{certificate.not_after:%Y-%m-%d %H:%M}",
            agent_version=agent_version(),
            generation=store.installs.generation(),
            ports=read_ports(home),
            slots=store.installs.slots(),
            installs=store.installs.installs(),
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
        found = {name: int(ports[name]) for name in ("rest", "grpc")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if 0 < pid <= MOST_PID and psutil.pid_exists(pid) else {}


def _slot(slot: Slot) -> str:
    active = slot.active
    if active is None:
        return f"{slot.model} ({slot.name}): nothing"
    proven = "proven" if active == slot.committed else "on probation"
    return (
        f"{active.model}/{active.version} ({slot.name}), {proven}, "
        f"{active.approvals} approvals, model {active.model_sha256[:12]}"
    )


def _install(one: Install) -> str:
    why = f": {one.code}: {one.detail}" if one.code else ""
    return f"{one.model}/{one.version} ({one.slot}) {one.state}{why}"
