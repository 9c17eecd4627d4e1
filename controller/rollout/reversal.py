"""Where devices go back to: what each ran, or was to run, before a rollout had it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from controller.fleet.device import SlotState
from controller.rollout.facts import Place, Releases, proven, runs
from controller.rollout.rollout import Member, Rollout, Wanted


@dataclass(frozen=True, slots=True)
class Reversal:
    """What it takes to put devices back.

    Attributes:
        restore: rows for the version before.
        remove: rows that go: nothing ran there before.
        left: devices that keep the version: they run it, and no earlier one is known.
        members: the same members, put back.
    """

    restore: tuple[Wanted, ...] = ()
    remove: tuple[Wanted, ...] = ()
    left: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()


def before(
    rollout: Rollout, row: Wanted | None, slots: Sequence[SlotState], releases: Releases
) -> int:
    """The version that a place goes back to when the rollout fails there; 0 is none.

    What the device has proven to run; else what it was to run.
    """
    others = [one for one in runs(rollout.model, slots, releases) if one.version != rollout.version]
    if others:
        return others[0].version
    wanted = None if row is None else releases.get((row.model, row.version))
    known = wanted is not None and wanted.published and wanted.version != rollout.version
    return wanted.version if wanted is not None and known else 0


def reversal(
    rollout: Rollout,
    members: Iterable[Member],
    row_of: Callable[[Place], Wanted | None],
    said_of: Callable[[Place], Sequence[SlotState]],
    releases: Releases,
) -> Reversal:
    """What puts the members back; those whose place is another rollout's by now are left out."""
    restore, remove, left, back = [], [], [], []
    for member in members:
        where = (member.device, rollout.model, rollout.slot)
        row = row_of(where)
        if row is None or (row.rollout, row.version) != (rollout.id, rollout.version):
            continue
        earlier = releases.get((rollout.model, member.before))
        said = said_of(where)
        if earlier is not None and earlier.published:
            restore.append(replace(row, version=earlier.version, attempt=1, soak_seconds=0))
            back.append(replace(member, reverted=True))
        elif any(one.running for one in said):
            left.append(member.device)
        else:
            remove.append(row)
            back.append(replace(member, reverted=True))
    return Reversal(tuple(restore), tuple(remove), tuple(left), tuple(back))


def is_back(
    member: Member, rollout: Rollout, slots: Sequence[SlotState], releases: Releases
) -> bool:
    """Whether a reverted device has proven that it runs what it ran before; nothing is soon proven."""
    earlier = releases.get((rollout.model, member.before))
    if earlier is None or not earlier.published:
        return not any(one.running and one.version == rollout.version for one in slots)
    return proven(slots, earlier)
