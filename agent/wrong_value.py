"""What is wrong with a value in a configuration, in words for the person who wrote it."""

import re
from typing import Final

import msgspec

_WHERE: Final = re.compile(r" - at `\$\.?(.*)`$")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_EXPECTED: Final = re.compile(
    r"Expected `([^`]+)`( of length)?(?: (>=|<=|>|<) (\S+?))?(?:, got `(\w+)`)?"
)
_WANTED: Final = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text in quotes",
    "array": "a list",
    "object": "a table",
}
_GIVEN: Final = {**_WANTED, "float": "a number with a point", "str": "text"}
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def wrong_value(error: msgspec.ValidationError) -> str:
    """Names the table and the key, and says what must stand there.

    ``[serving] rest_port: must be a whole number, at most 65535``
    """
    text = str(error)
    where = _WHERE.search(text)
    path = where[1] if where else ""
    what = text[: where.start()] if where else text
    if unknown := _UNKNOWN.fullmatch(what):
        return f"{_place(f'{path}.{unknown[1]}')}: there is no such key"
    if missing := _MISSING.fullmatch(what):
        return f"{_place(f'{path}.{missing[1]}')} is missing"
    place = _place(path)
    expected = _EXPECTED.fullmatch(what)
    if expected is None:
        return f"{place}: {what}"
    kind, length, bound, limit, got = expected.groups()
    said = f"must be {_WANTED.get(kind, kind)}"
    if bound:
        said += f", {_BOUNDS[bound]} {limit.removesuffix('.0')}{' long' if length else ''}"
    if got:
        said += f", and is {_GIVEN.get(got, got)}"
    return f"{place}: {said}"


def _place(path: str) -> str:
    """``serving.rest_port`` as ``[serving] rest_port``; a table by itself as ``[serving]``."""
    table, _, key = path.replace("[...]", "").rpartition(".")
    return f"[{table}] {key}" if table else f"`{key}`"
