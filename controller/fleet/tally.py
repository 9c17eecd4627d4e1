"""Why a selector matches so many devices: each of its parts counted over the whole fleet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controller.fleet.selector import All, And, Compare, Has, In, Not, Or, Selector, matches, number

VALUES_TOLD: Final = 5

Fleet = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of the devices match, and of each part the same as a line for a person.

    The lines nest as the parts do. One that asks for a label or fact says what values there are,
    the most frequent first.
    """

    devices: int
    matching: int
    lines: tuple[str, ...]


def tally(selector: Selector, fleet: Fleet) -> Tally:
    """Counts over devices with these attributes (``controller.fleet.attributes``)."""
    counted = _lines(selector, fleet, 0)
    broad = len(f"{len(fleet):,}")
    lines = tuple(f"{count:>{broad},}  {text}" for count, text in counted)
    return Tally(len(fleet), counted[0][0], lines)


def _lines(selector: Selector, fleet: Fleet, depth: int) -> list[tuple[int, str]]:
    count = sum(matches(selector, attributes) for attributes in fleet)
    head = "  " * depth
    match selector:
        case All():
            return [(count, f"{head}all")]
        case Has(name) | Compare(name, _, _) | In(name, _):
            return [(count, f"{head}{selector} ({_values(name, fleet)})")]
        case Not(inner):
            return [(count, f"{head}not"), *_lines(inner, fleet, depth + 1)]
        case And(parts) | Or(parts):
            word = "all of" if isinstance(selector, And) else "one of"
            below = [line for part in parts for line in _lines(part, fleet, depth + 1)]
            return [(count, f"{head}{word}"), *below]


def _values(name: str, fleet: Fleet) -> str:
    found = Counter(attributes[name] for attributes in fleet if name in attributes)
    told = _range(found) if len(found) > VALUES_TOLD else ""
    parts = [told] if told else _frequent(found)
    if without := len(fleet) - found.total():
        parts.append(f"no {name}: {without:,}")
    return ", ".join(parts) or "no device"


def _range(found: Counter[str]) -> str:
    """Of many numbers, or of values that no two devices share, none is worth to be named."""
    numbers = {text: value for text in found if (value := number(text)) is not None}
    if len(numbers) == len(found):
        least, most = min(numbers, key=numbers.__getitem__), max(numbers, key=numbers.__getitem__)
        return f"{len(found):,} values from {least} to {most}"
    return f"{len(found):,} values, all different" if len(found) == found.total() else ""


def _frequent(found: Counter[str]) -> list[str]:
    ordered = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    parts = [f"{value}: {count:,}" for value, count in ordered[:VALUES_TOLD]]
    if rest := [count for _, count in ordered[VALUES_TOLD:]]:
        parts.append(f"{len(rest):,} other{'s' * (len(rest) > 1)}: {sum(rest):,}")
    return parts
