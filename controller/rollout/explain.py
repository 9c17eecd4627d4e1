"""Rollouts in sentences, for people: the CLI, the web and the log show these."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from controller.rollout.account import OFFLINE
from controller.rollout.progress import Progress
from controller.rollout.rollout import OPEN, Rollout, State
from controller.rollout.standing import Kind, Outcome

SHOWN = 5
"""This many devices are named; the rest are counted."""


def named(devices: Collection[str]) -> str:
    """``pi-01, pi-02 and 7 more``."""
    shown = ", ".join(heapq.nsmallest(SHOWN, devices))  # quicker than to sort a whole fleet
    return shown if len(devices) <= SHOWN else f"{shown} and {len(devices) - SHOWN} more"


def title(rollout: Rollout) -> str:
    """``digits/2 -> site=berlin``, and the slot where it is not the usual one."""
    slot = "" if rollout.slot == "champion" else f" ({rollout.slot})"
    return f"{rollout.model}/{rollout.version} -> {rollout.selector}{slot}"


def summary(progress: Progress) -> str:
    """The sum: ``digits/2 -> site=berlin: 3 of 5 run it, 1 installing (fetching), 1 offline``.

    Of an ended rollout it says who proved it then: they may run another version by now.
    """
    total = progress.census.size
    if total == 0:
        return f"{title(progress.rollout)}: {_nobody(progress)}"
    does = "run it" if progress.rollout.state in OPEN else "proved that they run it"
    parts = [f"{progress.count(Outcome.OK)} of {total} {does}"]
    for outcome, words in _COUNTED.items():
        if count := progress.count(outcome):
            parts.append(f"{count} {words} ({_reasons(progress, outcome)})")
    parts += _waiting(progress)
    if offline := _offline(progress):
        parts.append(f"{len(offline)} offline")
    for outcome, words in _PLAIN.items():
        if count := progress.count(outcome):
            parts.append(f"{count} {words}")
    if progress.held and progress.rollout.state in OPEN:
        parts.append(f"{len(progress.held)} held back as control group")
    return f"{title(progress.rollout)}: {', '.join(parts)}"


def _waiting(progress: Progress) -> list[str]:
    waiting = [
        (kind, len(devices))
        for kind, devices in progress.census.groups()
        if kind.outcome is Outcome.WAITING and kind.code != OFFLINE
    ]
    busy = [(kind, count) for kind, count in waiting if kind.doing]
    installing = sum(count for _, count in busy)
    said = [f"{installing} installing ({_states(busy)})"] if busy else []
    if silent := sum(count for _, count in waiting) - installing:
        said.append(f"{silent} not reported yet")
    return said


_COUNTED = {
    Outcome.FAILED: "failed",
    Outcome.UNREACHABLE: "unreachable",
    Outcome.DEFERRED: "deferred",
}
_PLAIN = {
    Outcome.REVERTED: "put back",
    Outcome.KEPT: "keep it unproven",
}


def told(progress: Progress) -> tuple[str, ...]:
    """All of it in sentences, the sum first."""
    lines = [summary(progress), *_noted(progress.notes)]
    lines += [f"  {line}" for line in progress.steps]
    lines += details(progress)
    if progress.rollout.state is not State.RUNNING:
        lines.append(f"  {ended(progress)}")
    return tuple(lines)


def _noted(notes: Mapping[str, Collection[str]]) -> list[str]:
    return [f"  {sentence}: {named(devices)}" for sentence, devices in sorted(notes.items())]


def back(done: int, waiting: Sequence[str], away: Sequence[str]) -> tuple[str, ...]:
    """How far a rollout that goes back has come."""
    lines = [f"{done} of {done + len(waiting) + len(away)} have proven that they are back"]
    if waiting:
        lines.append(f"not yet back: {named(waiting)}")
    if away:
        lines.append(f"go back when they connect: {named(away)}")
    return tuple(lines)


def details(progress: Progress) -> tuple[str, ...]:
    """What the sum leaves out: devices that can't, that another rollout has, that were left."""
    unfit: dict[tuple[str, ...], list[str]] = {}
    for device, reasons in progress.incompatible.items():
        unfit.setdefault(reasons, []).append(device)
    lines = [
        f"  can't run it: {named(devices)} ({'; '.join(reasons)})"
        for reasons, devices in sorted(unfit.items())
    ]
    takers: dict[str, list[str]] = {}
    for device, by in progress.taken.items():
        takers.setdefault(by, []).append(device)
    lines += [f"  newer rollout {by} has: {named(took)}" for by, took in sorted(takers.items())]
    if offline := _offline(progress):
        lines.append(f"  learn it when they connect: {named(offline)}")
    return tuple(lines)


def _offline(progress: Progress) -> AbstractSet[str]:
    found: set[str] = set()
    for kind, devices in progress.census.groups():
        if kind.outcome is Outcome.AWAY or (kind.outcome, kind.code) == (Outcome.WAITING, OFFLINE):
            found |= devices
    return found


def later(rollout: Rollout, notes: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """What a rollout that has succeeded does for devices that match by now; empty if nothing."""
    done = _noted(notes)
    return (f"{title(rollout)}: has succeeded, and goes on", *done) if done else ()


def ended(progress: Progress) -> str:
    """In which state a rollout is that does not run, and why."""
    rollout = progress.rollout
    state = rollout.state.value.replace("-", " ")
    return f"{state}: {rollout.reason}" if rollout.reason else state


def _nobody(progress: Progress) -> str:
    if progress.taken:
        return "no device, newer rollouts have them"
    if progress.incompatible:
        return "no device, none that matches can run it"
    if progress.rollout.state in OPEN:
        return "no device matches yet"
    return "no device"


def _reasons(progress: Progress, outcome: Outcome) -> str:
    by_code: dict[str, set[str]] = {}
    for kind, devices in progress.census.groups():
        if kind.outcome is outcome:
            by_code.setdefault(kind.code or "no code", set()).update(devices)
    return "; ".join(f"{code}: {named(devices)}" for code, devices in sorted(by_code.items()))


def _states(busy: Iterable[tuple[Kind, int]]) -> str:
    counts = Counter[str]()
    for kind, count in busy:
        counts[f"{kind.doing}, {kind.code}" if kind.code else kind.doing] += count
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {doing}" for doing, count in sorted(counts.items()))
