"""What a turn of the planner takes in a fleet of 100,000: by the ledger, against planning afresh."""

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from controller.fleet.device import Device, SlotState
from controller.registry import version as registry
from controller.rollout.draft import Plan
from controller.rollout.facts import DeviceFacts, Facts, Release
from controller.rollout.ledger import Ledger
from controller.rollout.plan import plan, plan_by
from controller.rollout.policy import Policy, Stage, soak_asked
from controller.rollout.rollout import Member, Rollout, StageRecord, StageState, State, Wanted
from protos.manifest import Needs
from simulations.bench.row import BenchRow

DEVICES: Final = 100_000
CHANGES: Final = 200
_NOW: Final = 1_900_000_000.0
_HALF_FIRST: Final = Policy(stages=(Stage(name="half", percent=50), Stage(name="all", percent=100)))
_OLD, _NEW = "a" * 64, "b" * 64


def rows() -> list[BenchRow]:
    """A turn in the middle of a rollout: nothing new, one report, one label, and all of it."""
    facts = _facts()
    gc.collect()
    gc.disable()
    afresh, made = _timed(lambda: plan(facts, _NOW))
    ledger = Ledger.of(facts)
    by_ledger = plan_by(ledger, {}, _NOW)
    if (made.members, made.assign) != (by_ledger.members, by_ledger.assign):
        raise ArithmeticError("the ledger plans something else")
    idle, _ = _timed(lambda: plan_by(ledger, {}, _NOW))
    reported = _each(ledger, [_reports(ledger, f"dev-{n:06}") for n in range(CHANGES)])
    moved = _each(ledger, [_moves(ledger, f"dev-{n:06}") for n in range(CHANGES)])
    gc.enable()
    of = f"of {DEVICES:,} devices, of which {DEVICES // 2:,} are released"
    return [
        BenchRow("plan made afresh", afresh, "s", None, "", of),
        BenchRow("turn, nothing has changed", 1e3 * idle, "ms", 5.0, _than(afresh, idle), of),
        BenchRow("turn, a device has reported", 1e3 * reported, "ms", 5.0, _than(afresh, reported)),
        BenchRow("turn, a label has changed", 1e3 * moved, "ms", 5.0, _than(afresh, moved),
                 "the device leaves the rollout"),
    ]  # fmt: skip


def _facts() -> Facts:
    """A rollout that has released half of its fleet and whose devices are installing."""
    names = [f"dev-{number:06}" for number in range(DEVICES)]
    half, soak = names[: DEVICES // 2], soak_asked(_HALF_FIRST, 0)
    releases = {("m", 1): _release(1, _OLD), ("m", 2): _release(2, _NEW)}
    running = Rollout(
        "m-2-1", "m", 2, "hw!=pi3", State.RUNNING, _NOW - 900, "ada", policy=_HALF_FIRST
    )
    labels = {"hw": "pi4", "site": "oslo"}
    return Facts(
        rollouts=(running,),
        devices=tuple(
            Device(one, _NOW, b"", "ff", _NOW, labels=labels, connected=True,
                   connected_since=_NOW - 9000, last_seen=_NOW - 10)
            for one in names
        ),
        wanted=tuple(
            Wanted(one, "m", "champion", 2, "m-2-1", _NOW - 600, soak_seconds=soak) for one in half
        ),
        slots=tuple(_slot(one, 1, _OLD) for one in names),
        releases=releases,
        members=tuple(Member("m-2-1", one, 0, _NOW - 600, before=1) for one in half),
        stages=(
            StageRecord("m-2-1", 0, StageState.OPEN, DEVICES // 2, _NOW - 600),
            StageRecord("m-2-1", 1),
        ),
    )  # fmt: skip


def _release(version: int, digest: str) -> Release:
    return Release("m", version, registry.State.PUBLISHED, digest, 100, Needs())


def _slot(device: str, version: int, digest: str) -> SlotState:
    return SlotState(
        device=device,
        model="m",
        slot="champion",
        version=version,
        running=True,
        state="committed",
        manifest_sha256=digest,
        model_sha256=digest,
        approvals=1,
        generation=1,
        counter=1,
        reported_at=_NOW,
    )


Told = tuple[DeviceFacts, Iterable[Member]]


def _reports(ledger: Ledger, device: str) -> Told:
    known, members = _known(ledger, device)
    slots = (_slot(device, 2, _NEW),)
    return DeviceFacts(device, known.device, known.rows, slots), members


def _moves(ledger: Ledger, device: str) -> Told:
    known, members = _known(ledger, device)
    if known.device is None:
        raise ArithmeticError(f"{device} is not in the fleet")
    elsewhere = replace(known.device, labels={"hw": "pi3", "site": "oslo"})
    return DeviceFacts(device, elsewhere, known.rows, known.slots), members


def _known(ledger: Ledger, device: str) -> Told:
    member = ledger.known.members_of("m-2-1").get(device)
    return ledger.known.by_device[device], [member] if member else []


def _each(ledger: Ledger, changes: Iterable[Told]) -> float:
    """Seconds a turn, each after one change."""
    told = list(changes)
    began = time.perf_counter()
    for known, members in told:
        ledger.tell(known, members)
        plan_by(ledger, {}, _NOW)
    return (time.perf_counter() - began) / len(told)


def _timed(make: Callable[[], Plan]) -> tuple[float, Plan]:
    began = time.perf_counter()
    made = make()
    return time.perf_counter() - began, made


def _than(afresh: float, turn: float) -> str:
    return f"{afresh / turn:,.0f} x faster than afresh"
