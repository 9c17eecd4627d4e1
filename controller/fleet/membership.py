"""Which devices each watched selector matches, kept as devices change: nobody scans the fleet.

Rules:

1. Once every change has been told, ``matching`` is what ``selector.matches`` would find if it were
   asked for every device. A device that was revoked matches nothing.
2. A change asks only the selectors that name a label or fact which it changed.
3. A new selector compares values, not devices: of each name that is asked for, the devices stand
   by their value, and the parts of an ``and`` narrow each other down, equality first.
4. What is kept grows with the devices and the names that are asked for, not with all their labels.

The index has one owner and no lock. It is made anew when the controller starts.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from controller.fleet.attributes import attribute, seen_by_selectors
from controller.fleet.column import Column
from controller.fleet.device import Device, DeviceStatus
from controller.fleet.selector import All, And, Compare, Has, In, Not, Or, Selector, matches, names
from controller.fleet.selector_parser import parse


@dataclass(frozen=True, slots=True)
class Moved:
    """The watched selectors that match a device since it changed, and those that no longer do."""

    entered: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()


_STAYS: Final = Moved()


@dataclass(slots=True)
class _Watched:
    selector: Selector
    devices: set[str]
    told: frozenset[str] | None = None  # the same devices, until they change


class Membership:
    """The index.

    Attributes:
        revision: of the newest change that it was told; its owner keeps it (``actions.follow``).
    """

    def __init__(self) -> None:
        self.revision = 0
        self._devices: set[str] = set()
        self._watched: dict[str, _Watched] = {}
        self._columns: dict[str, Column] = {}
        self._asking: dict[str, set[str]] = {}  # by name, which selectors ask for it

    @property
    def watched(self) -> frozenset[str]:
        """The selectors, as they were written."""
        return frozenset(self._watched)

    @property
    def matching(self) -> Mapping[str, frozenset[str]]:
        """The ids of the devices that each watched selector matches. A copy: it stays as it is."""
        return {text: _told(watched) for text, watched in self._watched.items()}

    def changed(self, device: Device) -> Moved:
        """Takes a device as it is now: one that is new, or changed, or was revoked.

        Telling twice is as telling once.
        """
        active = device.status is DeviceStatus.ACTIVE
        id_ = sys.intern(device.id)
        asked: set[str] = set()
        if (id_ in self._devices) != active:
            (self._devices.add if active else self._devices.discard)(id_)
            asked.update(self._watched)
        for name, column in self._columns.items():
            if column.put(id_, attribute(device, name) if active else None):
                asked |= self._asking[name]
        return self._move(device, asked) if asked else _STAYS

    def watch(
        self, selectors: Iterable[str], devices: Callable[[], Iterable[Device]] = tuple
    ) -> None:
        """Watches these, too. ``devices`` is asked only if one names what none before has named.

        Args:
            selectors: as people write them.
            devices: tells every device that the index was told of.

        Raises:
            BadSelector: one can't be read; nothing has changed.
        """
        added = {text: parse(text) for text in selectors if text not in self._watched}
        wanted = frozenset[str]().union(*map(names, added.values()))
        if missing := wanted - self._columns.keys():
            self._columns |= _columns(missing, devices())
        for text, selector in added.items():
            found = set(_select(selector, self._devices, self._columns))
            self._watched[text] = _Watched(selector, found)
            for name in names(selector):
                self._asking.setdefault(name, set()).add(text)

    def unwatch(self, selectors: Iterable[str]) -> None:
        """Forgets these, and what was kept for them alone."""
        for text in selectors:
            if gone := self._watched.pop(text, None):
                for name in names(gone.selector):
                    self._asking[name].discard(text)
        for name in [name for name, asking in self._asking.items() if not asking]:
            del self._asking[name], self._columns[name]

    def _move(self, device: Device, asked: Iterable[str]) -> Moved:
        attributes = seen_by_selectors(device)
        entered: set[str] = set()
        left: set[str] = set()
        for text in asked:
            watched = self._watched[text]
            now = attributes is not None and matches(watched.selector, attributes)
            if now != (device.id in watched.devices):
                (watched.devices.add if now else watched.devices.discard)(sys.intern(device.id))
                (entered if now else left).add(text)
                watched.told = None
        return Moved(frozenset(entered), frozenset(left))


def _columns(wanted: Iterable[str], devices: Iterable[Device]) -> dict[str, Column]:
    columns = {name: Column(name) for name in wanted}
    for device in devices:
        id_ = sys.intern(device.id)
        for name, column in columns.items():
            column.put(id_, attribute(device, name))
    return columns


def _told(watched: _Watched) -> frozenset[str]:
    if watched.told is None:
        watched.told = frozenset(watched.devices)
    return watched.told


def _select(
    selector: Selector, among: AbstractSet[str], columns: Mapping[str, Column]
) -> AbstractSet[str]:
    """Those of ``among`` that the selector matches."""
    match selector:
        case All():
            return among
        case Has(name) | Compare(name, _, _) | In(name, _):
            return columns[name].matching(selector, among)
        case Not(inner):
            return among - _select(inner, among, columns)
        case And(parts):
            for part in sorted(parts, key=_effort):
                among = _select(part, among, columns)
            return among
        case Or(parts):
            found: set[str] = set()
            for part in parts:
                found |= _select(part, among - found if found else among, columns)
            return found


def _effort(selector: Selector) -> int:
    """What narrows most for least comes first."""
    match selector:
        case Compare(_, "=", _):
            return 0
        case All() | Has() | In() | Compare():
            return 1
        case _:
            return 2
