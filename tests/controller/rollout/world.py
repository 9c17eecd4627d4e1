"""A controller's core without transport: the real store, actions and loop, driven by a script.

Each line of a script that begins with ``>`` is a command; what follows is what it printed. Run this
file to write the transcripts anew, then read the difference.
"""

import asyncio
import dataclasses
import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from controller.errors import ControllerError, DeviceOffline
from controller.fleet import actions as fleet
from controller.fleet.device import Device, DeviceStatus, SlotState
from controller.registry import version as registry
from controller.rollout import actions
from controller.rollout.explain import told
from controller.rollout.loop import RolloutLoop
from controller.rollout.policy import AT_ONCE
from controller.rollout.steering import actions as steering
from controller.store.store import Store
from controller.telemetry.record import StoredReport
from protos.documents import Directive, Report, SlotReport
from protos.envelope import peek, seal, unseal
from protos.keys import CryptoSigner
from protos.manifest import Budgets, File, Manifest, Needs, Role, Semantic, Tensor
from protos.v1 import command_pb2
from simulations.memory_store import MemoryStore
from tests.controller.rollout.scripted_policy import pairs, scripted

GOLDEN = Path(__file__).parent / "golden"
START = 1_800_000_000.0
FILE = File(sha256="0" * 64, length=1)
LOADED = FILE.sha256
"""What a runtime has loaded of any version here."""


def manifest(model: str, version: int, needs: Needs | None = None) -> Manifest:
    """A whole manifest; its files are nobody's concern here."""
    tensor = Tensor(name="x", dtype="FP32", shape=(-1, 4), semantic=Semantic.NUMERIC)
    return Manifest(
        model=model,
        version=version,
        release_counter=version,
        inputs=(tensor,),
        outputs=(msgspec.structs.replace(tensor, name="y"),),
        files=dict.fromkeys((Role.MODEL, Role.REFERENCE, Role.GOLDEN, Role.CARD), FILE),
        needs=needs or Needs(),
        budgets=Budgets(latency_p99_seconds=1.0, memory_bytes=1),
    )


def registered(
    model: str,
    version: int,
    state: registry.State = registry.State.PUBLISHED,
    needs: Needs | None = None,
) -> registry.Version:
    """A version as the store has it."""
    made = manifest(model, version, needs)
    return registry.Version(model, version, state, made.encode(), made.digest, START, "ada")


def device(name: str, labels: Mapping[str, str], facts: Mapping[str, str]) -> Device:
    """An enrolled device with a live link."""
    return Device(
        name,
        START,
        b"pem",
        "01",
        START + 1e9,
        labels=dict(labels),
        facts=dict(facts),
        last_seen=START,
        connected=True,
    )


class Post:
    """A courier that keeps what it was given, for devices that are there."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.sent: list[tuple[str, bytes]] = []

    async def send(self, device: str, command: bytes) -> None:
        if device not in self.there:
            raise DeviceOffline(f"no link to {device!r}")
        self.sent.append((device, command))

    def connected(self) -> frozenset[str]:
        return frozenset(self.there)

    async def disconnect(self, device: str) -> None:
        self.there.discard(device)


class HandClock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.at = START
        self.slept = 0.0
        self.asleep = asyncio.Event()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        if seconds < 1.0:
            return
        self.slept = seconds
        self.asleep.set()
        await asyncio.Event().wait()


class World:
    """One controller and what its devices say."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or MemoryStore()
        self.post = Post()
        self.clock = HandClock()
        self.director = CryptoSigner.generate_ed25519()
        self.loop = self.new_loop()
        self.policy = AT_ONCE
        self._counter = 0

    def new_loop(self) -> RolloutLoop:
        """As after a restart: nothing is remembered but what is stored."""
        return RolloutLoop(self.store, self.post, self.director, self.clock)

    async def run(self, line: str) -> list[str]:
        """What the command prints."""
        name, *words = shlex.split(line)
        self.clock.at += 1
        try:
            match name:
                case "plan":
                    return await self._plan()
                case "connect":
                    self._link(words[0], "up")
                    await self.loop.connected(words[0])
                    return self._drain()
                case _:
                    return self._asked(name, words)
        except ControllerError as error:
            return [f"refused: {error.code}: {error.detail}"]

    def _asked(self, name: str, words: list[str]) -> list[str]:
        commands: Mapping[str, Callable[..., list[str] | None]] = {
            "device": self._device,
            "publish": self._publish,
            "recall": self._recall,
            "label": self._label,
            "link": self._link,
            "revoke": self._revoke,
            "report": self._report,
            "start": self._start,
            "abort": self._abort,
            "policy": self._policy,
            "pause": self._pause,
            "resume": self._resume,
            "approve": self._approve,
            "retry": self._retry,
            "wait": self._wait,
            "show": self._show,
            "restart": self._restart,
        }
        return commands[name](*words) or []

    def _restart(self) -> None:
        self.loop = self.new_loop()

    def _show(self, rollout: str) -> list[str]:
        with self.store.begin() as tx:
            return list(told(actions.show(tx, rollout, self.clock.at)))

    async def _plan(self) -> list[str]:
        made = await self.loop.turn()
        return [*made.because, *self._drain()] or ["nothing runs"]

    def _drain(self) -> list[str]:
        lines = [f"sent {name}: {self._told(command)}" for name, command in self.post.sent]
        self.post.sent.clear()
        return sorted(lines)

    def _told(self, command: bytes) -> str:
        envelope = command_pb2.Command.FromString(command).directive.SerializeToString()
        said = unseal(envelope, Directive, [self.director.public_key])
        wanted = [f"{one.model}/{one.version} ({one.slot})" for one in said.assignments]
        return f"generation {said.generation}: {', '.join(wanted) or 'nothing'}"

    def _device(self, *words: str) -> None:
        named, plain = pairs(words)
        told = {"arch", "memory_bytes", "agent_version"}
        facts = {key: value for key, value in named.items() if key in told or "runtimes" in key}
        labels = {key: value for key, value in named.items() if key not in facts}
        with self.store.begin() as tx:
            for name in plain:
                tx.devices.put(device(name, labels, facts))
        self.post.there.update(plain)

    def _publish(self, *words: str) -> None:
        named, plain = pairs(words)
        arch = tuple(named["arch"].split(",")) if "arch" in named else ()
        needs = Needs(memory_bytes=int(named.get("memory_bytes", "0")), arch=arch)
        model, version = plain[0].split("/")
        with self.store.begin() as tx:
            tx.registry.put_model(registry.Model(model, START, 1))
            tx.registry.put_version(registered(model, int(version), needs=needs))

    def _recall(self, reference: str) -> None:
        model, version = reference.split("/")
        with self.store.begin() as tx:
            known = tx.registry.version(model, int(version))
            assert known is not None
            recalled = dataclasses.replace(known, state=registry.State.RECALLED)
            tx.registry.put_version(recalled)

    def _start(self, reference: str, selector: str, *rest: str) -> list[str]:
        slot = "challenger" if "challenger" in rest else "champion"
        with self.store.begin() as tx:
            made = actions.start(
                tx,
                reference,
                selector,
                "ada",
                self.clock.at,
                actions.Order(slot, self.policy, allow_empty="allow-empty" in rest),
            )
        return [made.id]

    def _abort(self, rollout: str, how: str) -> list[str]:
        with self.store.begin() as tx:
            done = steering.abort(tx, rollout, "ada", self.clock.at, steering.Abort(how))
        return [
            f"restored: {dict(done.restored)}",
            f"withdrawn: {', '.join(done.withdrawn)}",
            f"left: {', '.join(done.left)}",
        ]

    def _policy(self, *words: str) -> None:
        self.policy = scripted(*pairs(words), self.clock.at)

    def _pause(self, rollout: str, *why: str) -> None:
        with self.store.begin() as tx:
            steering.pause(tx, rollout, "ada", self.clock.at, " ".join(why))

    def _resume(self, rollout: str) -> None:
        with self.store.begin() as tx:
            steering.resume(tx, rollout, "ada", self.clock.at)

    def _approve(self, rollout: str) -> None:
        with self.store.begin() as tx:
            steering.approve(tx, rollout, "ada", self.clock.at)

    def _retry(self, rollout: str, *names: str) -> list[str]:
        with self.store.begin() as tx:
            asked = steering.retry(tx, rollout, "ada", self.clock.at, names)
        return [f"asked again: {', '.join(asked)}"]

    def _wait(self, seconds: str) -> None:
        self.clock.at += float(seconds) - 1

    def _label(self, name: str, *words: str) -> None:
        with self.store.begin() as tx:
            fleet.label(tx, name, "ada", self.clock.at, pairs(words)[0])

    def _link(self, name: str, state: str) -> None:
        (self.post.there.add if state == "up" else self.post.there.discard)(name)
        with self.store.begin() as tx:
            tx.devices.touch(name, self.clock.at, connected=state == "up")

    def _revoke(self, name: str) -> None:
        with self.store.begin() as tx:
            known = tx.devices.get(name)
            assert known is not None
            tx.devices.put(dataclasses.replace(known, status=DeviceStatus.REVOKED))

    def _report(self, name: str, *rest: str) -> None:
        """``report pi-01 run digits/1 committed try digits/2 failed:self-test-mismatch``.

        Several devices report the same: ``report pi-01,pi-02 run digits/1 committed``. What has
        soaked is committed, and has answered for so many seconds: ``run digits/1 soaked:60``. What
        has not loaded it (any more) says so: ``run digits/1 committed:not-ready``, and
        ``soaked:60:not-ready`` if it had soaked before.
        """
        for one in name.split(","):
            self._reported(one, *rest)

    def _reported(self, name: str, *rest: str) -> None:
        self._counter += 1
        said = [
            self._slot(*rest[at : at + 3], running=rest[at] == "run")
            for at in range(0, len(rest), 3)
        ]
        with self.store.begin() as tx:
            newest = tx.rollouts.directive(name)
            generation = 0 if newest is None else newest.generation
            report = Report(
                device=name,
                counter=self._counter,
                generation=generation,
                reported_at=int(self.clock.at),
                running=tuple(slot for slot, running in said if running),
                wanted=tuple(slot for slot, running in said if not running),
            )
            signer = CryptoSigner.generate_ecdsa()
            tx.devices.touch(name, self.clock.at, connected=True)
            tx.devices.replace_slots(name, [slot_state(report, *one) for one in said])
            tx.telemetry.add_report(
                StoredReport(
                    name,
                    report.counter,
                    generation,
                    report.reported_at,
                    self.clock.at,
                    seal(report, signer),
                )
            )

    def _slot(
        self, _: str, reference: str, state: str, *, running: bool
    ) -> tuple[SlotReport, bool]:
        model, version = reference.split("/")
        state, _, code = state.partition(":")
        soaked = 0
        if state == "soaked":
            seconds, _, code = code.partition(":")
            soaked = int(seconds)
        with self.store.begin() as tx:
            known = tx.registry.version(model, int(version))
        assert known is not None
        digest = "f" * 64 if code == "other-bytes" else known.manifest_sha256
        return (
            SlotReport(
                model=model,
                slot="champion",
                version=int(version),
                state="committed" if soaked else state,
                manifest_sha256=digest,
                model_sha256=LOADED if running and code != "not-ready" else "",
                code=code,
                soaked=soaked,
            ),
            running,
        )


def slot_state(report: Report, slot: SlotReport, running: bool) -> SlotState:
    """What the store keeps of a reported slot."""
    return SlotState(
        report.device,
        slot.model,
        slot.slot,
        slot.version,
        running,
        slot.state,
        slot.manifest_sha256,
        slot.model_sha256,
        slot.approvals,
        report.generation,
        report.counter,
        report.reported_at,
        slot.code,
        slot.detail,
        slot.soaked,
    )


def directives(world: World, name: str) -> list[Directive]:
    """Everything that the device was ever told, oldest first."""
    with world.store.begin() as tx:
        return [peek(one.envelope, Directive) for one in tx.rollouts.directives(name)][::-1]


async def play(script: str) -> str:
    """The transcript of a script: its commands and comments, and what they print."""
    world, lines = World(), []
    for line in script.splitlines():
        if line.startswith("#"):
            lines.append(line)
        elif line.startswith("> "):
            lines += [line, *await world.run(line[2:])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for path in sorted(GOLDEN.glob("*.txt")):
        path.write_text(asyncio.run(play(path.read_text())))
