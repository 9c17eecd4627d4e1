"""Two questions over a fleet: which few devices are broken, and has the world changed?

Each device alone: its calibrated p-value, with the false discovery rate over devices controlled
(Benjamini & Hochberg 1995). All others together: their merged counts, which show what no single
device could. Only the second is a reason to train anew; the first is one to send a technician.

A device may tell of as many rows as it likes. None counts for more of them than the middle one does: so
a few that lie, or that are much busier than all others, neither make a change of the world nor hide one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.monitor import thresholds
from agent.monitor.counts import Counts
from agent.monitor.finding import Finding, Judgement, Verdict
from agent.monitor.quality import quality_findings
from agent.monitor.reference import Reference
from agent.monitor.verdict import Floors, bad_data, drift, judge
from controller.monitor.merge import merged, middle, thinned

FALSE_DISCOVERIES: Final = 0.05
"""Expected share of healthy devices among those that are called broken."""
SURE: Final = 0.01
"""In a small fleet that share alone would allow much: never is a device called broken on evidence
that one healthy device in a hundred shows."""
FEW: Final = 0.5
"""If so large a share of the devices has moved, it is the world that has."""
WORLD_WARNING: Final = 0.02
WORLD_CRITICAL: Final = 0.1
"""Effects over a whole fleet: a small change of everything matters more than of one device."""

MANY: Final = 4
"""A device that tells of so many times the rows that it counts for is named."""


@dataclass(frozen=True, slots=True)
class DeviceDrift:
    """One device's data against the reference.

    Attributes:
        rows: how many predictions it tells of.
        broken: unlike the rest of the fleet's.
        counted: as how many they count for the fleet; those of a broken one do not.
    """

    device: str
    rows: int
    judgement: Judgement
    broken: bool
    counted: int


@dataclass(frozen=True, slots=True)
class FleetDrift:
    """What the fleet's counts say.

    Attributes:
        devices: by name.
        world: over the merged counts of the devices that are not broken.
        world_rows: how many predictions these are.
        sentences: all of it for a person.
    """

    devices: tuple[DeviceDrift, ...]
    world: Judgement
    world_rows: int
    sentences: tuple[str, ...]

    @property
    def broken(self) -> tuple[DeviceDrift, ...]:
        """The devices that are broken."""
        return tuple(one for one in self.devices if one.broken)


def discoveries(chances: Sequence[float], share: float) -> float:
    """The level up to which Benjamini and Hochberg's procedure rejects p-values; 0 if it rejects none.

    >>> discoveries([0.001, 0.02, 0.9, 0.5], 0.05)
    0.025
    """
    level = 0.0
    for rank, chance in enumerate(sorted(chances), 1):
        if chance <= share * rank / len(chances):
            level = share * rank / len(chances)
    return level


def judge_fleet(reference: Reference, counts: Mapping[str, Counts]) -> FleetDrift:
    """What ``counts``, by device, say against ``reference``.

    Raises:
        ProfileMismatch: counts are of another profile.
    """
    alone = {device: _alone(reference, one) for device, one in sorted(counts.items())}
    enough = {
        device: chance_of(judgement)
        for device, judgement in alone.items()
        if judgement.verdict is not Verdict.INSUFFICIENT_DATA
    }
    level = min(discoveries(list(enough.values()), FALSE_DISCOVERIES), SURE)
    moved = {}
    for device in (device for device, likely in enough.items() if likely <= level):
        judgement = _at(reference, counts[device], alone[device], level)
        if judgement.findings:
            moved[device] = judgement
    faulty = [device for device in moved if moved[device].verdict is Verdict.BAD_DATA]
    few = len(moved) < FEW * len(enough) or len(enough) < 2
    broken = set(moved) if few else set(faulty)
    rows = [one.rows for device, one in counts.items() if device not in broken]
    most = middle(rows, reference.policy.n_min)
    together = merged(
        thinned(one, most or one.rows) for device, one in counts.items() if device not in broken
    )
    world = _world(reference, together, len(rows))
    devices = tuple(
        _device(device, counts[device].rows, moved.get(device, alone[device]), most, broken)
        for device in alone
    )
    heard = together.rows if together else 0
    return FleetDrift(devices, world, heard, _sentences(devices, world, heard))


def _alone(reference: Reference, counts: Counts) -> Judgement:
    """The device's by itself: too few rows for a verdict on drift can show well that they are faulty.

    Else they would be merged, and make faulty what all others tell.
    """
    judgement = judge(reference, counts)
    if judgement.verdict is not Verdict.INSUFFICIENT_DATA or not counts.rows:
        return judgement
    quality = quality_findings(reference, counts)
    return bad_data(quality, ()) if quality else judgement


def _device(
    device: str, rows: int, judgement: Judgement, most: int, broken: set[str]
) -> DeviceDrift:
    counted = 0 if device in broken else min(rows, most or rows)
    return DeviceDrift(device, rows, judgement, device in broken, counted)


def chance_of(judgement: Judgement) -> float:
    """How likely a healthy device shows as much; of faulty data, as much of what is faulty."""
    if judgement.verdict is Verdict.BAD_DATA:
        return min(one.p_value for one in judgement.findings if one.kind == "quality")
    return judgement.p_value


def _at(reference: Reference, counts: Counts, alone: Judgement, level: float) -> Judgement:
    """The device's judgement at the level that the whole fleet allows."""
    if alone.verdict is Verdict.BAD_DATA:
        return alone
    policy = reference.policy
    floor = thresholds.effect_floor(reference.table, counts.rows, policy.warning)
    return drift(reference, counts, Floors(floor, max(policy.critical, floor)), level)


def _world(reference: Reference, counts: Counts | None, devices: int) -> Judgement:
    if counts is None or devices < 2 or counts.rows < reference.policy.n_min:
        return Judgement(Verdict.INSUFFICIENT_DATA)
    judgement = judge(reference, counts)
    if judgement.verdict is Verdict.BAD_DATA:
        return judgement
    floor = thresholds.effect_floor(reference.table, counts.rows, WORLD_WARNING)
    floors = Floors(floor, max(WORLD_CRITICAL, floor))
    return drift(reference, counts, floors, reference.policy.alpha)


def _sentences(devices: Sequence[DeviceDrift], world: Judgement, rows: int) -> tuple[str, ...]:
    broken = [one for one in devices if one.broken]
    waiting = [one for one in devices if one.judgement.verdict is Verdict.INSUFFICIENT_DATA]
    rest = f"{len(devices) - len(broken)} of {len(devices)} devices"
    said = [f"{one.device}: {one.judgement.findings[0].detail}" for one in broken]
    if broken:
        said.insert(0, f"{len(broken)} of {len(devices)} devices see data unlike the reference")
    if world.verdict is Verdict.OK:
        said.append(f"the data of {rest} together ({rows:,} predictions) are as in the reference")
    elif world.verdict is not Verdict.INSUFFICIENT_DATA:
        changed = "are faulty" if world.verdict is Verdict.BAD_DATA else "have changed"
        what = _reasons(world.findings)
        said.append(f"the data of {rest} together ({rows:,} predictions) {changed}: {what}")
    said += _capped([one for one in devices if one.rows > MANY * one.counted and not one.broken])
    if waiting:
        said.append(f"{len(waiting)} of {len(devices)} devices have too little data to judge")
    return tuple(said)


def _capped(devices: Sequence[DeviceDrift]) -> Sequence[str]:
    """Whose rows count for a small part only."""
    if not devices:
        return ()
    largest = max(devices, key=lambda one: one.rows)
    many = f"{len(devices)} devices" if len(devices) > 1 else "1 device"
    named = f"{largest.device}, which told of {largest.rows:,}"
    more = ", and others" if len(devices) > 1 else ""
    only = f"only {largest.counted:,} predictions count, as many as of the middle one"
    return (f"of {many} {only}: {named}{more}",)


def _reasons(findings: Sequence[Finding]) -> str:
    """The first of what is faulty, and of what has moved."""
    faulty, moved = (
        "; ".join([one.detail for one in findings if one.kind == kind][:3])
        for kind in ("quality", "drift")
    )
    return f"{faulty}; besides, {moved}" if faulty and moved else faulty or moved
