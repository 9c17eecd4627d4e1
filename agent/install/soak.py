"""How long a proven version is to answer before the device says that it has: its soak.

Rules:

1. It counts from when the version answers as the slot's last known good one: from its commit, or from
   when a start of the agent has loaded it. Whatever else answers in between ends the count, and so
   does a restart: a device that restarts every few minutes never soaks.
2. Only the monotonic clock counts. No clock that is set, here or elsewhere, ends or lengthens a soak.
3. What was reached stays with the slot, over restarts too, until another version is proven there.
4. Who asks again for as much, or less, is answered by what was reached. More goes on from where the
   count stands: at once, if the version has answered for so long already.
"""

import math
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from agent.install.change import Change
from agent.install.record import Deployed, Slot, SlotKey
from protos.documents import Assignment, Directive


class Answering(msgspec.Struct, frozen=True):
    """A proven version that answers in a slot, and since when: monotonic seconds of this run."""

    deployed: Deployed
    since: float


class Soaks(msgspec.Struct, frozen=True):
    """What follows from a look at the slots.

    Attributes:
        reached: slots as they are from now on, of those that have soaked as they were asked to.
        again_at: when the next one will have, in monotonic seconds; infinite if none is asked to.
    """

    reached: tuple[Slot, ...] = ()
    again_at: float = math.inf


def answering(before: Answering | None, proven: Deployed | None, now: float) -> Answering | None:
    """What counts in a slot from ``now`` (monotonic seconds), when ``proven`` answers there."""
    if proven is None:
        return None
    if before is not None and before.deployed == proven:
        return before
    return Answering(proven, now)


def soaks(
    directive: Directive | None,
    slots: Iterable[Slot],
    counts: Mapping[SlotKey, Answering],
    now: float,
) -> Soaks:
    """Who has soaked by ``now`` (monotonic seconds), and who will; ``counts`` are of this run."""
    if directive is None:
        return Soaks()
    asked = {(one.model, one.slot): one for one in directive.assignments if one.soak_seconds}
    reached, again_at = [], math.inf
    for slot in slots if asked else ():
        wanted, count = asked.get(slot.key), counts.get(slot.key)
        if wanted is None or count is None or not _is_asked(slot, wanted, count):
            continue
        due = count.since + wanted.soak_seconds
        if due <= now:
            reached.append(replace(slot, soaked=wanted.soak_seconds))
        else:
            again_at = min(again_at, due)
    return Soaks(tuple(reached), again_at)


def _is_asked(slot: Slot, wanted: Assignment, count: Answering) -> bool:
    """Whether what answers is what is asked about, and has not reached so much before."""
    proven = slot.committed
    return (
        proven is not None
        and slot.active == proven == count.deployed
        and (proven.version, proven.manifest_sha256) == (wanted.version, wanted.sha256)
        and slot.soaked < wanted.soak_seconds
    )


def changes_of(reached: Iterable[Slot], slots: Mapping[SlotKey, Slot]) -> list[Change]:
    """What there is to tell of slots that are written; ``slots`` are those from before."""
    return [
        Change("slot.soaked", *slot.key, slot.active.version)
        for slot in reached
        if slot.active is not None
        and (known := slots.get(slot.key)) is not None
        and known.committed == slot.committed
        and known.soaked < slot.soaked
    ]
