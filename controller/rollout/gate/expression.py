"""Gates of one's own, as people write them, over what a stage and its control group show.

    stage.error_rate <= 2 * control.error_rate + 0.001
    stage.devices < 20 or stage.latency_p99 < 0.05 and not stage.drift > control.drift + 0.1

Rules:

1. ``*`` and ``/`` bind closer than ``+`` and ``-``; then come the comparisons ``<``, ``<=``, ``>``
   and ``>=``, then ``not``, ``and`` and ``or``.
2. A name that has no value yet, and a division by zero, leave a comparison undecided: None. What is
   decided without it is decided: ``stage.devices < 20 or ...`` holds while there are fewer.
3. ``parse(str(expression)) == expression``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KEYWORDS: Final = frozenset({"and", "or", "not"})
COUNTS: Final = ("devices", "inferences")
QUANTITIES: Final = (
    "error_rate",
    "latency_p99",
    "data_quality",
    "drift",
    "confidence",
    "estimated_accuracy",
    *COUNTS,
)
GROUPS: Final = ("stage", "control")
NAMES: Final = tuple(f"{group}.{one}" for group in GROUPS for one in QUANTITIES)

_OPPOSITE: Final = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}

Values = Mapping[str, float]
"""What names stand for; those without a value are not there."""


@dataclass(frozen=True, slots=True)
class Number:
    """Itself: finite, not negative."""

    number: float

    def __str__(self) -> str:
        return repr(self.number).removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Name:
    """One of ``NAMES``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Minus:
    """``inner`` with the other sign."""

    inner: "Term"

    def __str__(self) -> str:
        return f"-({self.inner})" if isinstance(self.inner, Arithmetic) else f"-{self.inner}"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``left`` and ``right``, added, subtracted, multiplied or divided."""

    sign: str
    left: "Term"
    right: "Term"

    def __str__(self) -> str:
        closer = self.sign in "*/"
        left, right = str(self.left), str(self.right)
        if closer and isinstance(self.left, Arithmetic) and self.left.sign in "+-":
            left = f"({left})"
        if isinstance(self.right, Arithmetic) and (closer or self.right.sign in "+-"):
            right = f"({right})"
        return f"{left} {self.sign} {right}"


Term = Number | Name | Minus | Arithmetic


@dataclass(frozen=True, slots=True)
class Compare:
    """Whether ``left`` stands in the relation ``sign`` to ``right``."""

    sign: str
    left: Term
    right: Term

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True, slots=True)
class Not:
    """That ``inner`` does not hold."""

    inner: "Truth"

    def __str__(self) -> str:
        return f"not {_closed(self.inner)}"


@dataclass(frozen=True, slots=True)
class And:
    """That all of ``parts`` hold; two or more."""

    parts: tuple["Truth", ...]

    def __str__(self) -> str:
        return " and ".join(_closed(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """That one of ``parts`` holds; two or more."""

    parts: tuple["Truth", ...]

    def __str__(self) -> str:
        return " or ".join(
            f"({part})" if isinstance(part, Or) else str(part) for part in self.parts
        )


Truth = Compare | Not | And | Or


def holds(truth: Truth, values: Values) -> bool | None:
    """Whether it does; None while that is undecided (rule 2)."""
    match truth:
        case Compare(sign, left, right):
            difference = value(Arithmetic("-", left, right), values)
            return None if difference is None else compare(sign, difference)
        case Not(inner):
            held = holds(inner, values)
            return None if held is None else not held
        case And(parts):
            return all_of(tuple(holds(part, values) for part in parts))
        case Or(parts):
            return any_of(tuple(holds(part, values) for part in parts))


def compare(sign: str, difference: float) -> bool:
    """Whether a comparison holds whose left side is ``difference`` above its right one."""
    if difference == 0:
        return sign in {"<=", ">="}
    return (difference < 0) is (sign in {"<", "<="})


def all_of(held: tuple[bool | None, ...]) -> bool | None:
    """One that does not hold decides; then one that is undecided leaves it so (S. C. Kleene)."""
    return False if False in held else None if None in held else True


def any_of(held: tuple[bool | None, ...]) -> bool | None:
    """One that holds decides; then one that is undecided leaves it so."""
    return True if True in held else None if None in held else False


def value(term: Term, values: Values) -> float | None:
    """What it comes to; None where a name has no value, and where there is no finite result."""
    match term:
        case Number(number):
            found: float | None = number
        case Name(name):
            found = values.get(name)
        case Minus(inner):
            of_inner = value(inner, values)
            found = None if of_inner is None else -of_inner
        case Arithmetic(sign, left, right):
            one, other = value(left, values), value(right, values)
            found = None if one is None or other is None else _reckon(sign, one, other)
    return found if found is not None and math.isfinite(found) else None


def _reckon(sign: str, left: float, right: float) -> float | None:
    match sign:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right if right else None


def straight(truth: Truth, *, turned: bool = False) -> Truth:
    """The same without ``not``: comparisons are turned round instead."""
    match truth:
        case Compare(sign, left, right):
            return Compare(_OPPOSITE[sign], left, right) if turned else truth
        case Not(inner):
            return straight(inner, turned=not turned)
        case And(parts) | Or(parts):
            inside = tuple(straight(part, turned=turned) for part in parts)
            return And(inside) if isinstance(truth, And) is not turned else Or(inside)


def names(term: Term | Truth) -> frozenset[str]:
    """Every name in it."""
    match term:
        case Number():
            return frozenset()
        case Name(name):
            return frozenset({name})
        case Minus(inner) | Not(inner):
            return names(inner)
        case Arithmetic(_, left, right) | Compare(_, left, right):
            return names(left) | names(right)
        case And(parts) | Or(parts):
            return frozenset().union(*map(names, parts))


def _closed(truth: Truth) -> str:
    return f"({truth})" if isinstance(truth, And | Or) else str(truth)
