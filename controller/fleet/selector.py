"""Selectors: which devices are meant, as people write it.

    site=berlin and hw!=pi3 and memory_bytes>=512M
    all, has gpu, site in (berlin, munich), not (arch=aarch64 or os=windows), id="pi-07"

Rules:

1. ``not`` binds closest, then ``and``, then ``or``.
2. A name that a device has no value for makes every comparison false; ``a != b`` is ``not a = b``
   and so true.
3. Two numbers compare as numbers. K, M, G and T are powers of 1024: ``512M`` is 536870912. Two
   dotted versions compare part by part: 1.9.0 < 1.20. Everything else compares as text.
4. ``parse(str(selector)) == selector``.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KEYWORDS: Final = frozenset({"all", "and", "or", "not", "in", "has"})

_BARE: Final = re.compile(r"[A-Za-z0-9_.:/+@-]+")
_SIZE: Final = re.compile(r"(-?[0-9]{1,30}(?:\.[0-9]{1,15})?)(?:([KkMGT])(?:iB|i|B)?|B)?")
_VERSION: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})+")
_FACTOR: Final = {"": 1, "K": 1024, "k": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_HOLDS: Final = {"=": {0}, "<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}}


@dataclass(frozen=True, slots=True)
class All:
    """Every device."""

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True, slots=True)
class Has:
    """Devices that have a value for ``name``."""

    name: str

    def __str__(self) -> str:
        return f"has {quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class Compare:
    """Devices whose value of ``name`` stands in the relation ``sign`` to ``value``."""

    name: str
    sign: str
    value: str

    def __str__(self) -> str:
        return f"{quoted(self.name)}{self.sign}{quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class In:
    """Devices whose value of ``name`` equals one of ``values``."""

    name: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{quoted(self.name)} in ({', '.join(map(quoted, self.values))})"


@dataclass(frozen=True, slots=True)
class Not:
    """Devices that ``inner`` does not match."""

    inner: "Selector"

    def __str__(self) -> str:
        return f"not {_closed(self.inner)}"


@dataclass(frozen=True, slots=True)
class And:
    """Devices that all of ``parts`` match; two or more."""

    parts: tuple["Selector", ...]

    def __str__(self) -> str:
        return " and ".join(_closed(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """Devices that one of ``parts`` matches; two or more."""

    parts: tuple["Selector", ...]

    def __str__(self) -> str:
        return " or ".join(
            f"({part})" if isinstance(part, Or) else str(part) for part in self.parts
        )


Selector = All | Has | Compare | In | Not | And | Or


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a device matches, and each part's share in that as a line for a person."""

    matches: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def quoted(word: str) -> str:
    """The word as a selector bears it: quoted if it must be."""
    if _BARE.fullmatch(word) and word not in KEYWORDS:
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def number(text: str) -> int | float | None:
    """``text`` as a number, with its size suffix taken into account; None if it is none."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    digits, factor = match[1], _FACTOR[match[2] or ""]
    return float(digits) * factor if "." in digits else int(digits) * factor


def version_key(text: str) -> tuple[int, ...] | None:
    """``1.20.1`` as (1, 20, 1); None if it is no dotted version."""
    if not _VERSION.fullmatch(text):
        return None
    return tuple(int(part) for part in text.split("."))


def matches(selector: Selector, attributes: Mapping[str, str]) -> bool:
    """Whether a device with these attributes (``controller.fleet.attributes``) is meant."""
    match selector:
        case All():
            found = True
        case Has(name):
            found = name in attributes
        case Compare(name, sign, value):
            found = _compare(attributes.get(name), sign, value)
        case In(name, values):
            found = any(_compare(attributes.get(name), "=", value) for value in values)
        case Not(inner):
            found = not matches(inner, attributes)
        case And(parts):
            found = all(matches(part, attributes) for part in parts)
        case Or(parts):
            found = any(matches(part, attributes) for part in parts)
    return found


def names(selector: Selector) -> frozenset[str]:
    """Every label and fact that it asks for."""
    match selector:
        case All():
            return frozenset()
        case Has(name) | Compare(name, _, _) | In(name, _):
            return frozenset({name})
        case Not(inner):
            return names(inner)
        case And(parts) | Or(parts):
            return frozenset().union(*map(names, parts))


def explain(selector: Selector, attributes: Mapping[str, str]) -> Explanation:
    """Why a device matches or not: one line a part, indented as they nest."""
    return Explanation(matches(selector, attributes), tuple(_explain(selector, attributes, 0)))


def _explain(selector: Selector, attributes: Mapping[str, str], depth: int) -> list[str]:
    verdict = "yes" if matches(selector, attributes) else "no"
    head = f"{verdict:<4}{'  ' * depth}"
    match selector:
        case All():
            return [f"{head}all"]
        case Has(name) | Compare(name, _, _) | In(name, _):
            known = f"{name} is {attributes[name]}" if name in attributes else f"no {name}"
            return [f"{head}{selector} ({known})"]
        case Not(inner):
            return [f"{head}not", *_explain(inner, attributes, depth + 1)]
        case And(parts) | Or(parts):
            word = "all of" if isinstance(selector, And) else "one of"
            below = [line for part in parts for line in _explain(part, attributes, depth + 1)]
            return [f"{head}{word}", *below]


def _closed(selector: Selector) -> str:
    return f"({selector})" if isinstance(selector, And | Or) else str(selector)


def _compare(have: str | None, sign: str, want: str) -> bool:
    if sign == "!=":
        return not _compare(have, "=", want)
    return have is not None and _order(have, want) in _HOLDS[sign]


@functools.lru_cache(maxsize=4096)
def _order(have: str, want: str) -> int:
    """-1, 0 or 1: ``have`` is less, equal or more."""
    have_number, want_number = number(have), number(want)
    if have_number is not None and want_number is not None:
        return (have_number > want_number) - (have_number < want_number)
    have_version, want_version = version_key(have), version_key(want)
    if have_version is not None and want_version is not None:
        return (have_version > want_version) - (have_version < want_version)
    return (have > want) - (have < want)
