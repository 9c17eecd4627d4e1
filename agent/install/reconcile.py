"""What to do about a directive: steps with their reasons.

Directives are level-triggered: each says all that shall run. So for every slot what is wanted is
compared with what is being done, however that came about.
"""

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from agent.errors import Quarantined
from agent.install.machine import State
from agent.install.outcome import QUARANTINING, outcome_of, quarantine_error
from agent.install.progress import begun, refused, renewed_by
from agent.install.record import Deployed, Install, Slot
from agent.store.device_store import Quarantine
from protos.documents import Assignment, Directive

QuarantineLookup = Callable[[str], Quarantine | None]


class Start(msgspec.Struct, frozen=True):
    """Replace whatever was being tried in the slot by ``install``, and the slot by ``slot``, if any."""

    install: Install
    reason: str
    slot: Slot | None = None


class Renew(msgspec.Struct, frozen=True):
    """The newer directive wants the same: it goes on under its generation."""

    install: Install
    reason: str


class Retire(msgspec.Struct, frozen=True):
    """Nothing is to run in the slot any more."""

    model: str
    slot: str
    reason: str


class Wait(msgspec.Struct, frozen=True):
    """Nothing can be done yet."""

    model: str
    slot: str
    reason: str


Step = Start | Renew | Retire | Wait


class Device(msgspec.Struct, frozen=True):
    """What the device has, as far as it matters here."""

    slots: Sequence[Slot]
    installs: Sequence[Install]
    quarantined: QuarantineLookup


def reconcile(directive: Directive | None, device: Device, now: float) -> Sequence[Step]:
    """The steps that bring the device nearer to the directive; none if there is nothing to do.

    Carried out, they leave nothing but ``Wait`` for the same directive.
    """
    if directive is None:
        return []
    wanted = {(one.model, one.slot): one for one in directive.assignments}
    slots = {slot.key: slot for slot in device.slots}
    installs = {install.key: install for install in device.installs}
    retired = sorted({key for key in (*slots, *installs) if key not in wanted})
    steps: list[Step] = [
        Retire(model, slot, f"generation {directive.generation} assigns nothing to it")
        for model, slot in retired
    ]
    for key, assignment in sorted(wanted.items()):
        wish = Wish(assignment, directive.generation, slots.get(key), installs.get(key))
        step = settle(wish, device.quarantined, now)
        if step is not None:
            steps.append(step)
    return steps


class Wish(msgspec.Struct, frozen=True):
    """An assignment of a generation, beside what its slot has."""

    assignment: Assignment
    generation: int
    slot: Slot | None
    install: Install | None

    @property
    def name(self) -> str:
        """The version that is wanted, as people write it."""
        return f"{self.assignment.model}/{self.assignment.version}"


def settle(wish: Wish, quarantined: QuarantineLookup, now: float) -> Step | None:
    """The step for one slot; None if it has what is wished for, or is on its way to it."""
    install, wanted = wish.install, wish.assignment
    if install is None or install.state is State.IDLE:
        return start(wish, quarantined, now, f"{wish.name} is wanted")
    if (install.version, install.sha256) != (wanted.version, wanted.sha256):
        reason = f"{wish.name} is wanted in place of {install.model}/{install.version}"
        return start(wish, quarantined, now, reason)
    newer = install.generation != wish.generation
    if install.state is State.FAILED and (newer or was_lifted(install, quarantined)):
        reason = "asked for again" if newer else "no longer in quarantine"
        return start(wish, quarantined, now, f"{wish.name} failed, and is {reason}")
    if not newer:
        return None
    if install.state is State.REVERTING:
        return Wait(install.model, install.slot, f"{wish.name} is being put back first")
    renewed = renewed_by(wanted, wish.generation, install)
    return Renew(
        renewed, f"{wish.name} is {install.state}; generation {wish.generation} wants it too"
    )


def start(wish: Wish, quarantined: QuarantineLookup, now: float, reason: str) -> Step:
    """The step towards a version that the slot is not on its way to."""
    wanted, slot = wish.assignment, wish.slot
    install = begun(wish.install, wanted, wish.generation, now)
    if install is None:
        return Wait(wanted.model, wanted.slot, f"{reason}: the slot is being put back first")
    proven = slot.committed if slot is not None else None
    if slot is not None and proven is not None and is_version(proven, wanted):
        # Proven here, and its files are kept: going back to it takes no second trial.
        done = replace(install, state=State.COMMITTED, candidate=proven, approvals=proven.approvals)
        return Start(done, f"{reason}; it is this slot's last known good one", recovered(slot))
    before = quarantined(wanted.sha256)
    if before is not None and before.refuses(wanted.rollout, wanted.attempt):
        # Refused without a look at the network; the slot goes back to what is known to be good.
        return Start(refused(install, outcome_of(quarantine_error(before)), now), reason)
    return Start(install, reason)


def is_version(deployed: Deployed, assignment: Assignment) -> bool:
    """Whether the assignment asks for just that."""
    wanted = (assignment.version, assignment.sha256)
    return (deployed.version, deployed.manifest_sha256) == wanted


def recovered(slot: Slot) -> Slot | None:
    """The slot with its last known good version answering; None if it does."""
    return None if slot.active == slot.committed else replace(slot, active=slot.committed)


def was_lifted(install: Install, quarantined: QuarantineLookup) -> bool:
    """Whether a failed install was in quarantine, and its digest no longer is."""
    kept_out = install.code in QUARANTINING or install.code == Quarantined.code
    return kept_out and quarantined(install.sha256) is None
