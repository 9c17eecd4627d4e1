"""What is wrong with a file that people write: each problem with its line, its key and what to do."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from controller.errors import InvalidInput
from controller.toml_file.duration import seconds_of, written
from controller.toml_file.keys import described, example, keys_of, named, shown_key, table_of
from controller.toml_file.lines import Path
from controller.toml_file.text import in_short, is_duration

MOST_TOLD: Final = 50
_OBJECT_TYPES: Final = frozenset({"model_type", "dict_type", "model_attributes_type"})


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        line: from 1.
        key: as people find it: ``[[stages]] soak``; empty for the file as a whole.
        remedy: what to write; empty where ``what`` says it.
    """

    line: int
    key: str
    what: str
    remedy: str

    def __str__(self) -> str:
        head, *rest = self.what.split("\n")
        said = f"{self.key}: {head}" if self.key else head
        first = f"{said}; {self.remedy}" if self.remedy else said
        return "\n".join([first, *(f"    {line}" for line in rest)])


class BadFile(InvalidInput):
    """A file that people write can't be used; the message names every line that is wrong.

    Attributes:
        problems: all of them, by line.
    """

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        count = len(self.problems)
        lines = [f"{file}:{one.line}: {one}" for one in self.problems[:MOST_TOLD]]
        if count > MOST_TOLD:
            lines.append(f"and {count - MOST_TOLD} more")
        head = f"{file}: {count} problem{'' if count == 1 else 's'}"
        super().__init__("\n".join([head, *lines]))


Moved = Mapping[str, tuple[str, str]]
"""Keys that people look for at the top of a file: the table that each is in, and its name there."""


def problem_of(
    error: ErrorDetails, path: Path, line: int, root: type[BaseModel], moved: Moved
) -> Problem:
    """What pydantic found at ``path`` of a file in which ``root`` stands, in plain words."""
    kind = error["type"]
    if kind == "extra_forbidden":
        if isinstance(error["input"], Mapping):
            header = ".".join(named(one) for one in path if isinstance(one, str))
            return Problem(line, f"[{header}]", "there is no such table", _meant(path, root, moved))
        return Problem(
            line, shown_key(path, root), "there is no such key", _meant(path, root, moved)
        )
    what = _WORDS[kind](error) if kind in _WORDS else error["msg"]
    _, field = described(path, root)
    if field is not None and kind in _BOUNDS and is_duration(field):
        words, key = _BOUNDS[kind]
        is_now = written(seconds_of(error["input"]))
        what = f"must be {words} {written(error['ctx'][key])}, and is {is_now}"
    return Problem(line, shown_key(path, root), what, _remedy(error, path, root))


def _remedy(error: ErrorDetails, path: Path, root: type[BaseModel]) -> str:
    kind, value = error["type"], error["input"]
    table, field = described(path, root)
    if kind == "policy":
        return ""
    if kind in _OBJECT_TYPES and isinstance(value, list):
        return f"write {shown_key(path, root)}, once"
    if kind == "tuple_type" and isinstance(value, Mapping):
        return f"write {shown_key(path, root)} for each"
    if kind == "enum" and isinstance(value, str):
        return _nearest(value, _choices(error))
    if field is not None:
        return f"write it like `{example(str(path[-1]), field)}`"
    needed = [name for name, one in table.model_fields.items() if one.is_required()]
    return f"write {shown_key(path, root)} with {' and '.join(needed) or 'its keys'}"


def _meant(path: Path, root: type[BaseModel], moved: Moved) -> str:
    wrong = str(path[-1])
    if wrong in moved:
        table_name, key = moved[wrong]
        return f"write `{key}` under [{table_name}]"
    table, _ = described(path[:-1], root)
    if near := _near(wrong, table.model_fields):
        return f"did you mean `{near}`?"
    elsewhere = [
        name
        for name, field in root.model_fields.items()
        if (inner := table_of(field.annotation)) and wrong in inner.model_fields
    ]
    if elsewhere and len(path) <= 2:
        return f"it belongs under {' or '.join(shown_key((name,), root) for name in elsewhere)}"
    return f"the keys here are {', '.join(keys_of(table))}"


def _near(word: str, known: Iterable[str]) -> str:
    """The one that was meant; empty if that is not clear."""
    names = list(known)
    if begins := [one for one in names if word.startswith(one)]:
        return max(begins, key=len)
    if goes_on := [one for one in names if one.startswith(word)]:
        return goes_on[0] if len(goes_on) == 1 else ""
    lowered = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.7)
    return lowered[close[0]] if close else ""


def _nearest(value: str, choices: Sequence[str]) -> str:
    near = _near(value, choices)
    return f'did you mean "{near}"?' if near else "choose one of them"


def _choices(error: ErrorDetails) -> list[str]:
    text = str(error.get("ctx", {}).get("expected", ""))
    return text.replace(" or ", ", ").replace("'", "").split(", ")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, datetime | date | time):
        return "a date or time"
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a very large number"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    return in_short(text)


def _must(what: str) -> Callable[[ErrorDetails], str]:
    return lambda error: f"must be {what}, and is {_shown(error['input'])}"


def _bound(words: str, key: str) -> Callable[[ErrorDetails], str]:
    return lambda error: f"must be {words} {error['ctx'][key]:g}, and is {_shown(error['input'])}"


def _length(words: str, key: str) -> Callable[[ErrorDetails], str]:
    return lambda error: f"must have {words} {error['ctx'][key]}"


def _said(error: ErrorDetails) -> str:
    """What a validator of our own said."""
    cause = str(error.get("ctx", {}).get("error", error["msg"]))
    return cause if "\n" in cause else f"{cause}, and is {_shown(error['input'])}"


_TABLE: Final = _must("a table")
_BOUNDS: Final = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_WORDS: Final[Mapping[str, Callable[[ErrorDetails], str]]] = {
    "missing": lambda _: "is missing",
    "string_type": _must("text in quotes"),
    "int_type": _must("a whole number"),
    "int_from_float": _must("a whole number"),
    "float_type": _must("a number"),
    "finite_number": _must("a number that ends"),
    "bool_type": _must("true or false"),
    "tuple_type": _must("a list"),
    "datetime_type": _must("a date and time without quotes"),
    "timezone_aware": _must("a date and time with its offset, such as +01:00 or Z"),
    "enum": lambda error: f"{_shown(error['input'])} is none of {', '.join(_choices(error))}",
    **{kind: _bound(words, key) for kind, (words, key) in _BOUNDS.items()},
    "too_short": _length("at least", "min_length"),
    "too_long": _length("at most", "max_length"),
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": _length("characters, at most", "max_length"),
    "string_pattern_mismatch": lambda error: f"{_shown(error['input'])} can't stand here",
    "value_error": _said,
    **dict.fromkeys(_OBJECT_TYPES, _TABLE),
}
