"""What a slot goes back to, and what a recall leaves of slots and installs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from agent.errors import AgentError
from agent.install.machine import FINAL, State
from agent.install.outcome import outcome_of
from agent.install.progress import refused
from agent.install.record import Deployed, Install, Slot

MayRun = Callable[[Deployed], AgentError | None]
"""None if the version may run, else why not: ``Recalled`` or ``BelowFloor``."""


def fallback(slot: Slot, failed: Install) -> Slot:
    """The slot after ``failed``: its last known good version answers, or nothing does.

    Without one, an unproven version that answers goes on unless it is what failed.
    """
    if slot.committed is None and slot.active is not None:
        is_failed = slot.active.manifest_sha256 == failed.sha256
        return replace(slot, active=None) if is_failed else slot
    return replace(slot, active=slot.committed)


def goal(slot: Slot | None, install: Install | None) -> Deployed | None:
    """What is to answer in the slot now."""
    if slot is None:
        return None
    if install is not None and install.state is State.REVERTING:
        return fallback(slot, install).active
    return slot.active


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What a recall changes: slots as they are then (some empty), and installs that end."""

    slots: tuple[Slot, ...] = ()
    installs: tuple[Install, ...] = ()


def enforce(
    slots: Sequence[Slot], installs: Sequence[Install], may_run: MayRun, now: float
) -> Enforcement:
    """What must change so that nothing runs, or is fallen back to, that may not run."""
    changed = [(slot, bound(slot, may_run)) for slot in slots]
    ended = []
    for install in installs:
        reason = None if install.candidate is None else may_run(install.candidate)
        running = install.state not in FINAL and install.state is not State.REVERTING
        if reason is not None and (running or install.state is State.COMMITTED):
            ended.append(refused(install, outcome_of(reason), now))
    return Enforcement(
        slots=tuple(after for before, after in changed if after != before),
        installs=tuple(ended),
    )


def bound(slot: Slot, may_run: MayRun) -> Slot:
    """The slot without what may not run: the fallback answers if that may."""
    committed = slot.committed if slot.committed and may_run(slot.committed) is None else None
    active = slot.active if slot.active and may_run(slot.active) is None else committed
    soaked = slot.soaked if committed is not None else 0
    return replace(slot, active=active, committed=committed, soaked=soaked)
