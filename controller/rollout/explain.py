"""Rollouts in sentences, for people: the CLI, the web and the log show these."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from controller.rollout.account import Outcome, Progress, Standing
from controller.rollout.rollout import Rollout, State

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
    does = "run it" if progress.rollout.state is State.RUNNING else "proved that they run it"
    parts = [f"{progress.count(Outcome.OK)} of {total} {does}"]
    failed = [one for one in progress.standings if one.outcome is Outcome.FAILED]
    if failed:
        parts.append(f"{len(failed)} failed ({_reasons(failed)})")
    waiting = [one for one in progress.standings if one.outcome is Outcome.WAITING]
    busy = [one for one in waiting if one.doing]
    if busy:
        parts.append(f"{len(busy)} installing ({_states(busy)})")
    if len(waiting) > len(busy):
        parts.append(f"{len(waiting) - len(busy)} not reported yet")
    away = progress.count(Outcome.UNREACHABLE)
    if away:
        parts.append(f"{away} offline")
    if back := progress.count(Outcome.REVERTED):
        parts.append(f"{back} put back")
    if kept := progress.count(Outcome.KEPT):
        parts.append(f"{kept} keep it unproven")
    return f"{title(progress.rollout)}: {', '.join(parts)}"


def details(progress: Progress) -> tuple[str, ...]:
    """What the sum leaves out: devices that can't, that another rollout has, that were left."""
    lines = []
    for device, reasons in sorted(progress.incompatible.items()):
        lines.append(f"  can't run it: {device} ({'; '.join(reasons)})")
    takers: dict[str, list[str]] = {}
    for device, by in progress.taken.items():
        takers.setdefault(by, []).append(device)
    lines += [f"  newer rollout {by} has: {named(took)}" for by, took in sorted(takers.items())]
    away = [one.device for one in progress.standings if one.outcome is Outcome.UNREACHABLE]
    if away:
        lines.append(f"  learn it when they connect: {named(away)}")
    return tuple(lines)


def later(rollout: Rollout, notes: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """What a rollout that has succeeded does for devices that match by now; empty if nothing."""
    done = [f"  {sentence}: {named(devices)}" for sentence, devices in sorted(notes.items())]
    return (f"{title(rollout)}: has succeeded, and goes on", *done) if done else ()


def ended(state: State, progress: Progress) -> str:
    """Why a rollout ends so."""
    match state:
        case State.SUCCEEDED:
            return "succeeded: every device has proven that it runs it"
        case State.FAILED:
            failed = progress.count(Outcome.FAILED)
            return f"failed: every device is decided, {failed} of {len(progress.standings)} failed"
        case State.SUPERSEDED:
            by = named(set(progress.taken.values()))
            return f"superseded: all its devices went to {by}"
        case State.ABORTED:
            version = f"{progress.rollout.model}/{progress.rollout.version}"
            return f"aborted: {version} is no longer published, nothing more is assigned"
        case State.RUNNING:
            return "running"


def _nobody(progress: Progress) -> str:
    if progress.taken:
        return "no device, newer rollouts have them"
    if progress.incompatible:
        return "no device, none that matches can run it"
    if progress.rollout.state is State.RUNNING:
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
