"""What every move of an install writes down: the install and the slot, which become durable together.

``loop.py`` and ``slot/loop.py`` do the work and wait for the disk; what is true afterwards is decided
here.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from agent.install.change import Change, change_of
from agent.install.fallback import fallback
from agent.install.machine import Event, State
from agent.install.outcome import QUARANTINING, Outcome
from agent.install.progress import deferred, passed, refused, renewed_by
from agent.install.record import Deployed, Install, Slot, SlotKey
from agent.store.device_store import Quarantine


class Edit(msgspec.Struct, frozen=True):
    """What becomes durable together.

    Attributes:
        installs: new records. One that goes into REVERTING for a fault of the version's own puts its
            digest in quarantine.
        slots: new records; one that points at nothing is removed.
        forgotten: slots and installs that are removed.
    """

    installs: tuple[Install, ...] = ()
    slots: tuple[Slot, ...] = ()
    forgotten: tuple[SlotKey, ...] = ()


def switched(slot: Slot, install: Install, candidate: Deployed, now: float) -> Edit:
    """The slot points at the candidate; what it fell back to before, it still does."""
    return Edit(installs=(passed(install, now),), slots=(replace(slot, active=candidate),))


def proven(slot: Slot, install: Install, now: float) -> Edit:
    """What answers in the slot is its last known good version from now on."""
    known = replace(slot, committed=slot.active, soaked=0)
    return Edit(installs=(passed(install, now),), slots=(known,))


def put_back(slot: Slot, install: Install, now: float) -> Edit:
    """The slot points at what it goes back to after ``install``, which has failed."""
    return Edit(installs=(passed(install, now),), slots=(fallback(slot, install),))


def rejected(install: Install, outcome: Outcome, until: float, now: float) -> Edit:
    """The work can't be done; or not now, and is put off ``until``."""
    if outcome.event is Event.BAD:
        return Edit(installs=(refused(install, outcome, now),))
    return Edit(installs=(deferred(install, outcome, until),))


def renewed(install: Install, wanted: Install) -> Edit:
    """The install goes on under the generation of ``wanted``, which asks for the same."""
    if install.state in {State.FAILED, State.REVERTING}:
        return Edit()  # the next look at the directive decides
    return Edit(installs=(renewed_by(wanted, wanted.generation, install),))


def is_quarantined(before: Install | None, after: Install) -> bool:
    """Whether this move puts the version in quarantine: it fails by a fault of its own.

    Only as it fails: a quarantine that is lifted while the slot is put back stays lifted.
    """
    known = before is not None and (before.state, before.sha256) == (
        State.REVERTING,
        after.sha256,
    )
    return after.state is State.REVERTING and not known and after.code in QUARANTINING


def quarantine_of(failed: Install, now: float) -> Quarantine:
    """What keeps the version out from now on."""
    return Quarantine(
        manifest_sha256=failed.sha256,
        model=failed.model,
        version=failed.version,
        code=failed.code,
        detail=failed.detail,
        at=now,
        rollout=failed.rollout,
        attempt=failed.attempt,
    )


def is_redeemed(before: Install | None, after: Install, kept: Quarantine | None) -> bool:
    """Whether a version that failed has proven itself, asked for again: nothing keeps it out then."""
    proven_now = (
        before is not None
        and before.state is State.PROBATION
        and after.state is State.COMMITTED
        and before.sha256 == after.sha256
    )
    return proven_now and kept is not None and not kept.refuses(after.rollout, after.attempt)


def changes_of(edit: Edit, installs: Mapping[SlotKey, Install]) -> Sequence[Change]:
    """What there is to tell about the edit; ``installs`` are those from before it."""
    changes = [Change("slot.retired", *key) for key in edit.forgotten]
    before: dict[SlotKey, Install | None] = dict.fromkeys(edit.forgotten)
    for install in edit.installs:
        key = install.key
        change = change_of(before[key] if key in before else installs.get(key), install)
        if change is not None:
            changes.append(change)
        before[key] = install
    return changes
