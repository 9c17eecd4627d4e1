"""Rollouts in sentences, for people: the CLI, the web and the log show these."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from controller.rollout.account import OFFLINE, Progress
from controller.rollout.rollout import OPEN, Rollout, State
from controller.rollout.standing import Outcome, Standing

SHOWN = 5
"""This many devices are named; the rest are counted."""


def named(devices: Iterable[str]) -> str:
    """``pi-01, pi-02 and 7 more``."""
    names = sorted(devices)
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def title(rollout: Rollout) -> str:
    """``digits/2 -> site=berlin``, and the slot where it is not the usual one."""
    slot = "" if rollout.slot == "champion" else f" ({rollout.slot})"
    return f"{rollout.model}/{rollout.version} -> {rollout.selector}{slot}"


def summary(progress: Progress) -> str:
    """The sum: ``digits/2 -> site=berlin: 3 of 5 run it, 1 installing (fetching), 1 offline``.

    Of an ended rollout it says who proved it then: they may run another version by now.
    """
    total = len(progress.standings)
    if total == 0:
        return f"{title(progress.rollout)}: {_nobody(progress)}"
    does = "run it" if progress.rollout.state in OPEN else "proved that they run it"
    parts = [f"{progress.count(Outcome.OK)} of {total} {does}"]
    by_outcome: dict[Outcome, list[Standing]] = {}
    for one in progress.standings:
        by_outcome.setdefault(one.outcome, []).append(one)
    for outcome, words in _COUNTED.items():
        if found := by_outcome.get(outcome):
            parts.append(f"{len(found)} {words} ({_reasons(found)})")
    waiting = [one for one in by_outcome.get(Outcome.WAITING, []) if one.code != OFFLINE]
    parts += _waiting(waiting)
    if offline := _offline(progress):
        parts.append(f"{len(offline)} offline")
    for outcome, words in _PLAIN.items():
        if found := by_outcome.get(outcome):
            parts.append(f"{len(found)} {words}")
    if progress.held and progress.rollout.state in OPEN:
        parts.append(f"{len(progress.held)} held back as control group")
    return f"{title(progress.rollout)}: {', '.join(parts)}"


def _waiting(waiting: Sequence[Standing]) -> list[str]:
    busy = [one for one in waiting if one.doing]
    said = [f"{len(busy)} installing ({_states(busy)})"] if busy else []
    if len(waiting) > len(busy):
        said.append(f"{len(waiting) - len(busy)} not reported yet")
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


def told(progress: Progress, notes: Mapping[str, Iterable[str]]) -> Progress:
    """The progress with all of it in sentences, the sum first."""
    lines = [summary(progress)]
    lines += [f"  {sentence}: {named(devices)}" for sentence, devices in sorted(notes.items())]
    lines += [f"  {line}" for line in progress.lines]
    lines += details(progress)
    if progress.rollout.state is not State.RUNNING:
        lines.append(f"  {ended(progress)}")
    return replace(progress, lines=tuple(lines))


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


def _offline(progress: Progress) -> list[str]:
    return [
        one.device
        for one in progress.standings
        if one.outcome is Outcome.AWAY or (one.outcome, one.code) == (Outcome.WAITING, OFFLINE)
    ]


def later(rollout: Rollout, notes: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """What a rollout that has succeeded does for devices that match by now; empty if nothing."""
    done = [f"  {sentence}: {named(devices)}" for sentence, devices in sorted(notes.items())]
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


def _reasons(failed: Sequence[Standing]) -> str:
    by_code: dict[str, list[str]] = {}
    for one in failed:
        by_code.setdefault(one.code or "no code", []).append(one.device)
    return "; ".join(f"{code}: {named(devices)}" for code, devices in sorted(by_code.items()))


def _states(busy: Sequence[Standing]) -> str:
    counts = Counter(f"{one.doing}, {one.code}" if one.code else one.doing for one in busy)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {doing}" for doing, count in sorted(counts.items()))
