"""Devices by their value of one label or fact, so that values are compared and not devices."""

import sys
from collections.abc import Set as AbstractSet
from typing import Final

from controller.fleet.selector import Compare, Has, In, matches, number, version_key

Leaf = Has | Compare | In

_NOBODY: Final[frozenset[str]] = frozenset()


class Column:
    """Which devices have which value of ``name``. Those without one are in no value's set."""

    __slots__ = ("_by_value", "_values", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._values: dict[str, str] = {}
        self._by_value: dict[str, set[str]] = {}

    def put(self, device: str, value: str | None) -> bool:
        """Notes the device's value, or that it has none; returns whether that is new."""
        before = self._values.get(device)
        if before == value:
            return False
        if before is not None:
            self._forget(device, before)
        if value is not None:
            # Most devices share their value with many others.
            kept = self._values[device] = sys.intern(value)
            self._by_value.setdefault(kept, set()).add(device)
        return True

    def matching(self, leaf: Leaf, among: AbstractSet[str]) -> AbstractSet[str]:
        """Those of ``among`` that ``leaf``, which asks for this column's name, matches."""
        match leaf:
            case Has():
                return among & self._values.keys()
            case Compare(_, "=", value) if _equals_only_itself(value):
                return among & self._by_value.get(value, _NOBODY)
            case Compare(_, "!=", value) if _equals_only_itself(value):
                return among - self._by_value.get(value, _NOBODY)
        if len(among) < 2 * len(self._by_value):
            return {device for device in among if self._holds(leaf, self._values.get(device))}
        return self._by_values(leaf, among)

    def _by_values(self, leaf: Leaf, among: AbstractSet[str]) -> AbstractSet[str]:
        holding = (ids for value, ids in self._by_value.items() if self._holds(leaf, value))
        found = set().union(*(among & ids for ids in holding))
        return found | (among - self._values.keys()) if self._holds(leaf, None) else found

    def _holds(self, leaf: Leaf, value: str | None) -> bool:
        return matches(leaf, {} if value is None else {self.name: value})

    def _forget(self, device: str, value: str) -> None:
        del self._values[device]
        ids = self._by_value[value]
        ids.discard(device)
        if not ids:
            del self._by_value[value]


def _equals_only_itself(value: str) -> bool:
    """Whether no other text equals it: 7 equals 7.0, and 512M equals 536870912 (selector, rule 3)."""
    return number(value) is None and version_key(value) is None
