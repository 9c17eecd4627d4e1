"""A simulated device: what it has and what it is in. ``install.py`` and ``line.py`` move it.

What is durable on a device is durable here: slots, installs, quarantine, directive, counter, spool. A
power cut takes the rest. Nothing happens on a device that has nothing to do, so it costs nothing.

There may be very many: what devices have alike they share, so nothing here is changed in its place.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Protocol

from agent.install.change import Change
from agent.install.machine import FINAL, State
from agent.install.record import Install, Slot, SlotKey
from agent.install.soak import Answering
from agent.store.device_store import Quarantine
from protos.documents import Directive
from simulations.fleet.ground import Ground, Packet
from simulations.fleet.queue import EPOCH
from simulations.fleet.tally import Doing, Part

_NONE: Final[Mapping[Any, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Birth:
    """Who a device is; ``offset`` is its site's, in seconds from UTC."""

    id: str
    labels: Mapping[str, str]
    facts: Mapping[str, str]
    offset: int = 0


class Chronicle(Protocol):
    """Takes down what happens."""

    def changed(self, device: "Device", change: Change) -> None:
        """An install or a slot has changed."""
        ...

    def happened(self, device: "Device", what: str) -> None:
        """Something else has happened on the device: ``restarted in self-test``."""
        ...


class Centre(Protocol):
    """The controller, as devices see it."""

    @property
    def is_up(self) -> bool: ...  # noqa: D102 - whether it can be dialled

    def connected(self, device: "Device") -> None:
        """A link has come up."""
        ...

    def lost(self, device: "Device") -> None:
        """A link has ended."""
        ...

    def upload(self, device: "Device", packets: Sequence[Packet]) -> int:
        """Stores them; up to which sequence nothing needs to be sent again."""
        ...


class Lines(Protocol):
    """The links, as devices see them."""

    def tell(self, device: "Device") -> None:
        """The device reports what has changed, now or as soon as it can."""
        ...

    def dial(self, device: "Device") -> None:
        """The device tries to get a link until it has one."""
        ...

    def hang_up(self, device: "Device") -> None:
        """The link ends, if there is one."""
        ...

    def block(self, device: "Device") -> None:
        """Nothing gets through to the device, or from it."""
        ...

    def unblock(self, device: "Device") -> None:
        """Takes one ``block`` back."""
        ...


@dataclass(eq=False, kw_only=True)
class World(Ground):
    """The ground, and whom devices on it have to do with."""

    chronicle: Chronicle
    centre: Centre = field(init=False)
    line: Lines = field(init=False)
    _slots: dict[tuple[Slot, ...], Mapping[SlotKey, Slot]] = field(default_factory=dict)

    def shared(self, slots: tuple[Slot, ...]) -> Mapping[SlotKey, Slot]:
        """The slots by key; one mapping for all devices that have the same."""
        known = self._slots.get(slots)
        if known is None:
            known = self._slots[slots] = MappingProxyType({slot.key: slot for slot in slots})
        return known


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

    def __init__(self, ground: World, number: int, birth: Birth) -> None:
        self.ground, self.number, self.id = ground, number, birth.id
        self.labels, self.offset = birth.labels, birth.offset
        self.quality = ground.quality
        self.slots: Mapping[SlotKey, Slot] = _NONE
        self.installs: tuple[Install, ...] = ()
        self.quarantine: Mapping[str, Quarantine] = _NONE
        self.directive: Directive | None = None
        self.counter = self.sequence = self.failures = self.retries = 0
        self.spool: tuple[Packet, ...] = ()
        self.fetched: Mapping[str, int] = _NONE
        self.turns: Mapping[SlotKey, int] = _NONE
        self.counts: tuple[tuple[SlotKey, Answering], ...] = ()
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
        return EPOCH + self.ground.queue.now + self.skew

    def slot(self, key: SlotKey) -> Slot:
        """The slot; empty if it points at nothing."""
        return self.slots.get(key) or Slot(*key)

    def put_slots(self, slots: Mapping[SlotKey, Slot]) -> None:
        """It has these from now on."""
        self.slots = self.ground.shared(tuple(slots.values()))

    def install(self, key: SlotKey) -> Install:
        """What is being brought to the slot, or was.

        Raises:
            KeyError: nothing ever was.
        """
        model, name = key
        for one in self.installs:
            if one.slot == name and one.model == model:
                return one
        raise KeyError(key)

    def put_install(self, install: Install) -> None:
        """In place of the slot's one before."""
        known = self.installs
        if len(known) == 1 and known[0].slot == install.slot and known[0].model == install.model:
            self.installs = (install,)
        else:
            others = {one.key: one for one in known}
            self.installs = tuple({**others, install.key: install}.values())

    def take_turn(self, key: SlotKey) -> int:
        """The number of what is due in the slot from now on; all that was is overtaken."""
        self.retries += 1
        self.turns = {**self.turns, key: self.retries} if self.turns else {key: self.retries}
        return self.retries

    def end_turn(self, key: SlotKey) -> None:
        """Nothing is due in the slot any more."""
        if key in self.turns:
            self.turns = without(self.turns, key)

    def quarantined(self, sha256: str) -> Quarantine | None:
        """Why this version failed here."""
        return self.quarantine.get(sha256)

    def idle(self) -> list[SlotKey]:
        """Slots with an install that is under way, for which nothing is due."""
        return [
            one.key for one in self.installs if one.state not in FINAL and one.key not in self.turns
        ]

    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return any(one.state not in FINAL for one in self.installs)

    def doing(self) -> Part:
        """What it does, as far as people watch it."""
        for install in self.installs:
            doing = _DOING.get(install.state)
            if doing is not None:
                return _part(doing, install.model, install.version)
        for slot in self.slots.values():
            if slot.active is not None:
                return _part(Doing.RUNS, slot.model, slot.active.version)
        return IDLE


def without(some: Mapping[Any, Any], key: object) -> Mapping[Any, Any]:
    """The same but for one."""
    return {one: value for one, value in some.items() if one != key} if len(some) > 1 else _NONE


_DOING: Final = {
    State.PROBATION: Doing.PROBATION,
    State.FAILED: Doing.REFUSED,
    State.REVERTING: Doing.REFUSED,
    **dict.fromkeys(set(State) - FINAL - {State.PROBATION, State.REVERTING}, Doing.INSTALLING),
}
IDLE: Final = Part(Doing.NOTHING, "")


@cache
def _part(doing: Doing, model: str, version: int) -> Part:
    return Part(doing, f"{model}/{version}")
