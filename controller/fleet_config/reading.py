"""Reads a fleet's file: the fleet, or everything that is wrong with it at once."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from controller.fleet_config.document import MAX_BYTES, FleetFile
from controller.fleet_config.fleet import Fleet, fleet_of, place_in_file, policy_of
from controller.fleet_config.lines import Path, key_lines, line_of
from controller.fleet_config.problems import BadFleetFile, Problem, described, problem_of

_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_LONG_NUMBER: Final = re.compile(r"[0-9_]{4000}")
_SYNTAX: Final = "write TOML 1.0: https://toml.io"
_ROUNDS: Final = 4
_STAND_INS: Final[Mapping[str, Any]] = {
    "fleet": {"name": "x", "selector": "all"},
    "models": [{"name": "x", "version": "x/1"}],
    "name": "x",
    "version": "x/1",
    "selector": "all",
    "metric": "drift",
    "holds": "stage.devices > 0",
    "when": "fleet.devices > 0",
    "model": "x",
    "start": "00:00",
    "duration": 3600,
}
"""For keys that must be there."""


def decode(data: bytes, file: str) -> str:
    """The text of a file's bytes.

    Raises:
        BadFleetFile: too many bytes, or not UTF-8.
    """
    if len(data) > MAX_BYTES:
        raise BadFleetFile(file, [_too_large(len(data))])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise BadFleetFile(file, [Problem(line, "", "not UTF-8", "save it as UTF-8")]) from error


def read_fleet(text: str, file: str) -> Fleet:
    """The fleet that ``text`` declares; ``file`` is what messages call it.

    Raises:
        BadFleetFile: not TOML, unknown keys, wrong types or impossible values: all of them.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise BadFleetFile(file, [_too_large(size)])
    table, lines = _parsed(text, file)
    search = _Search(table, lines)
    found = search.document()
    if found is not None:
        search.policies(found)
    if search.problems or found is None:
        raise BadFleetFile(file, search.problems)
    return fleet_of(found, lines)


class _Search:
    """Looks for problems until there are no more.

    What is found wrong is mended for the next look, so that one mistake does not hide another; what
    follows only from something that was mended is not told.
    """

    def __init__(self, table: dict[str, Any], lines: Mapping[Path, int]) -> None:
        self.problems: list[Problem] = []
        self._left = table
        self._lines = lines
        self._mended: set[Path] = set()

    def document(self) -> FleetFile | None:
        """The document, mended; None if that can't be."""
        for _ in range(_ROUNDS):
            try:
                return FleetFile.model_validate(self._left)
            except ValidationError as error:
                found = [one for one in error.errors(include_url=False) if not _follows(one)]
            for one in found:
                self._tell(one, one["loc"], _entry(one["loc"]))
            for one in found:
                self._mend(one["loc"])
        return None

    def policies(self, document: FleetFile) -> None:
        """Finds what the keys of a policy say together and can't."""
        for number, model in enumerate(document.models):
            try:
                policy_of(document, model)
            except ValidationError as error:
                for one in error.errors(include_url=False):
                    place = place_in_file(one["loc"])
                    own = ("models", number, *place)
                    # A table's keys are the model's or the file's each; a list is, as a whole.
                    self._tell(one, own if own[:4] in self._lines else place)

    def _tell(self, error: ErrorDetails, path: Path, within: Path = ()) -> None:
        """Notes an error of a table at ``within``; none that follows from what was mended."""
        about = error.get("ctx", {}).get("about", ())
        if any(_concerns(one, about, within) for one in self._mended):
            return
        if any(path[: len(one)] == one for one in self._mended):
            return
        line = line_of(self._lines, path)
        if path not in self._lines and about:
            line = next((at for one, at in self._lines.items() if one[-1] in about), line)
        self.problems.append(problem_of(error, path, line))

    def _mend(self, path: Path) -> None:
        """Takes a key out of the document; one that must be there gets a value that may."""
        while path and isinstance(path[-1], int):
            path = path[:-1]
        if not path or path in self._mended:
            return
        self._mended.add(path)
        key = str(path[-1])
        above: Any = self._left
        for part in path[:-1]:
            above = above.get(part, {}) if isinstance(above, dict) else above[part]
        above.pop(key, None)
        if key in _STAND_INS and (field := described(path[:-1])[0].model_fields.get(key)):
            if field.is_required():
                above[key] = _STAND_INS[key]
            if path[0] == "models" and key in {"name", "version"}:
                number = str(path[1])
                above.update(name=f"x{number}", version=f"x{number}/1")
            elif key == "name":
                above[key] = f"x{path[-2]}"


def _concerns(mended: Path, about: Sequence[str], within: Path) -> bool:
    """Whether an error is about what was mended: a key of its own table, or another table."""
    if within and mended[0] != within[0]:
        return mended[0] in about
    return mended[-1] in about and mended[: len(within)] == within


def _entry(path: Path) -> Path:
    """The innermost entry of a list of tables that ``path`` leads into."""
    ends = [number + 1 for number, part in enumerate(path) if isinstance(part, int)]
    return path[: ends[-1]] if ends else ()


def _follows(error: ErrorDetails) -> bool:
    """Whether a list is too short only because its entries are wrong, which is told of each."""
    value = error["input"]
    return error["type"] == "too_short" and isinstance(value, list | tuple) and len(value) > 0


def _parsed(text: str, file: str) -> tuple[dict[str, Any], Mapping[Path, int]]:
    try:
        return tomllib.loads(text), key_lines(text)
    except tomllib.TOMLDecodeError as error:
        raise BadFleetFile(file, [_syntax(str(error), text)]) from error
    except RecursionError as error:
        problem = Problem(1, "", "lists within lists, deeper than can be read", _SYNTAX)
        raise BadFleetFile(file, [problem]) from error
    except ValueError as error:  # of numbers with thousands of digits
        found = _LONG_NUMBER.search(text)
        line = 1 + text.count("\n", 0, found.start() if found else 0)
        problem = Problem(line, "", "a number of thousands of digits", _SYNTAX)
        raise BadFleetFile(file, [problem]) from error


def _syntax(said: str, text: str) -> Problem:
    place = _PLACE.search(said)
    what = said[: place.start()] if place else said
    if place and place[1]:
        return Problem(int(place[1]), "", f"column {place[2]}: {what}", _SYNTAX)
    return Problem(1 + text.rstrip("\n").count("\n"), "", f"at the end: {what}", _SYNTAX)


def _too_large(size: int) -> Problem:
    return Problem(1, "", f"{size} bytes; {MAX_BYTES} at most", "make several fleets of it")
