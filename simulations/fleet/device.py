"""A simulated device: what it has and what it is in. ``install.py`` and ``line.py`` move it.

What is durable on a device is durable here: slots, installs, quarantine, directive, counter, spool. A
power cut takes the rest. Nothing happens on a device that has nothing to do, so it costs nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from agent.install.machine import FINAL, State
from agent.install.record import Install, Slot, SlotKey
from agent.install.soak import Answering
from agent.store.device_store import Quarantine
from protos.documents import Directive
from simulations.fleet.ground import Ground, Packet
from simulations.fleet.tally import Doing, Part


@dataclass(frozen=True, slots=True)
class Birth:
    """Who a device is; ``offset`` is its site's, in seconds from UTC."""

    id: str
    labels: Mapping[str, str]
    facts: Mapping[str, str]
    offset: int = 0


class Device:
    """One device.

    Attributes:
        skew: seconds by which its clock is wrong.
        slowness: so many times slower than others.
        cuts: (state, how often) its power goes there.
        lie: what it says that is not so: a version, or ``its digest``.
        blocked: how many faults keep it from having a link.
        linked, link_since, cut_at: its link: whether there is one, since when, when the last ended.
        since, looked, requests, errors: of the version on probation.
        counts: by slot, the proven version that answers, and since when.
        soaks_at: when it is to be looked next who has soaked; infinite if nobody will.
        switched_at: since when the active version is.
        dirty: something has changed that it has not told.
        turns: by slot, which of the things that are due is its; others were overtaken.
        part: where the tally counts it.
    """

    __slots__ = (
        "blocked", "counter", "counts", "cut_at", "cuts", "directive", "dirty", "disk_full", "errors",
        "failures", "fetched", "ground", "id", "in_flight", "installs", "labels", "lie", "link_since",
        "linked", "looked", "number", "offset", "part", "powered", "quality", "quarantine",
        "replays", "requests", "retries", "sequence", "since", "skew", "slots", "slowness",
        "soaks_at", "spool", "switched_at", "turns", "work_since",
    )  # fmt: skip

    def __init__(self, ground: Ground, number: int, birth: Birth) -> None:
        self.ground, self.number, self.id = ground, number, birth.id
        self.labels, self.offset = birth.labels, birth.offset
        self.quality = ground.quality
        self.slots: dict[SlotKey, Slot] = {}
        self.installs: dict[SlotKey, Install] = {}
        self.quarantine: dict[str, Quarantine] = {}
        self.directive: Directive | None = None
        self.counter = self.sequence = self.failures = self.retries = 0
        self.spool: list[Packet] = []
        self.fetched: dict[str, int] = {}
        self.turns: dict[SlotKey, int] = {}
        self.counts: dict[SlotKey, Answering] = {}
        self.soaks_at = math.inf
        self.skew = self.since = self.looked = self.work_since = 0.0
        self.link_since = self.cut_at = 0.0
        self.requests = self.errors = self.blocked = 0
        self.switched_at = -3600.0
        self.slowness = 1.0
        self.linked = self.dirty = self.in_flight = self.disk_full = self.replays = False
        self.powered = True
        self.cuts: tuple[str, int] | None = None
        self.lie = ""
        self.part: Part | None = None

    def clock(self) -> float:
        """Unix seconds by the device's own clock."""
        return self.ground.unix + self.skew

    def slot(self, key: SlotKey) -> Slot:
        """The slot; empty if it points at nothing."""
        return self.slots.get(key) or Slot(*key)

    def quarantined(self, sha256: str) -> Quarantine | None:
        """Why this version failed here."""
        return self.quarantine.get(sha256)

    def idle(self) -> list[SlotKey]:
        """Slots with an install that is under way, for which nothing is due."""
        return [
            key
            for key, install in self.installs.items()
            if install.state not in FINAL and key not in self.turns
        ]

    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return any(install.state not in FINAL for install in self.installs.values())

    def doing(self) -> Part:
        """What it does, as far as people watch it."""
        for install in self.installs.values():
            reference = f"{install.model}/{install.version}"
            if install.state is State.PROBATION:
                return Part(Doing.PROBATION, reference)
            if install.state in {State.FAILED, State.REVERTING}:
                return Part(Doing.REFUSED, reference)
            if install.state not in FINAL:
                return Part(Doing.INSTALLING, reference)
        for slot in self.slots.values():
            if slot.active is not None:
                return Part(Doing.RUNS, f"{slot.model}/{slot.active.version}")
        return Part(Doing.NOTHING, "")
