"""Finds everything that is wrong with a file that people write, at once; or reads it."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controller.toml_file.keys import described
from controller.toml_file.lines import Path, key_lines, line_of
from controller.toml_file.problems import BadFile, Moved, Problem, problem_of

_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_LONG_NUMBER: Final = re.compile(r"[0-9_]{4000}")
_SYNTAX: Final = "write TOML 1.0: https://toml.io"
_ROUNDS: Final = 4

Document = TypeVar("Document", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Document]):
    """A kind of file.

    Attributes:
        root: what stands in it.
        bad: what is raised of one that can't be used.
        most_bytes: that one may have.
        too_large: what to do about more.
        stand_ins: values for keys that must be there, by their names.
        moved: keys that people may look for elsewhere.
    """

    root: type[Document]
    bad: type[BadFile]
    most_bytes: int
    too_large: str
    stand_ins: Mapping[str, Any]
    moved: Moved = field(default_factory=dict)


def decode(data: bytes, file: str, kind: Kind[Document]) -> str:
    """The text of a file's bytes.

    Raises:
        BadFile: of the kind: too many bytes, or not UTF-8.
    """
    if len(data) > kind.most_bytes:
        raise kind.bad(file, [_too_large(len(data), kind)])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise kind.bad(file, [Problem(line, "", "not UTF-8", "save it as UTF-8")]) from error


class Search(Generic[Document]):
    """Looks for problems until there are no more.

    What is found wrong is mended for the next look, so that one mistake does not hide another; what
    follows only from something that was mended is not told.

    Attributes:
        problems: found so far.
        lines: of the file's keys.
    """

    def __init__(self, text: str, file: str, kind: Kind[Document]) -> None:
        """Raises the kind's ``bad`` where ``text`` is too long, or not TOML."""
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > kind.most_bytes:
            raise kind.bad(file, [_too_large(size, kind)])
        self._left, self.lines = _parsed(text, file, kind)
        self.problems: list[Problem] = []
        self._kind = kind
        self._mended: set[Path] = set()

    def document(self) -> Document | None:
        """The document, mended; None if that can't be."""
        for _ in range(_ROUNDS):
            try:
                return self._kind.root.model_validate(self._left)
            except ValidationError as error:
                found = [one for one in error.errors(include_url=False) if not _follows(one)]
            for one in found:
                self.tell(one, one["loc"], _entry(one["loc"]))
            for one in found:
                self._mend(one["loc"])
        return None

    def tell(self, error: ErrorDetails, path: Path, within: Path = ()) -> None:
        """Notes an error of a table at ``within``; none that follows from what was mended."""
        about = error.get("ctx", {}).get("about", ())
        if any(_concerns(one, about, within) for one in self._mended):
            return
        if any(path[: len(one)] == one for one in self._mended):
            return
        line = line_of(self.lines, path)
        if path not in self.lines and about:
            line = next((at for one, at in self.lines.items() if one[-1] in about), line)
        self.problems.append(problem_of(error, path, line, self._kind.root, self._kind.moved))

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
        stand_ins = self._kind.stand_ins
        table, _ = described(path[:-1], self._kind.root)
        if key in stand_ins and (field := table.model_fields.get(key)):
            if field.is_required():
                above[key] = stand_ins[key]
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


def _parsed(
    text: str, file: str, kind: Kind[Document]
) -> tuple[dict[str, Any], Mapping[Path, int]]:
    try:
        return tomllib.loads(text), key_lines(text)
    except tomllib.TOMLDecodeError as error:
        raise kind.bad(file, [_syntax(str(error), text)]) from error
    except RecursionError as error:
        problem = Problem(1, "", "lists within lists, deeper than can be read", _SYNTAX)
        raise kind.bad(file, [problem]) from error
    except ValueError as error:  # of numbers with thousands of digits
        found = _LONG_NUMBER.search(text)
        line = 1 + text.count("\n", 0, found.start() if found else 0)
        problem = Problem(line, "", "a number of thousands of digits", _SYNTAX)
        raise kind.bad(file, [problem]) from error


def _syntax(said: str, text: str) -> Problem:
    place = _PLACE.search(said)
    what = said[: place.start()] if place else said
    if place and place[1]:
        return Problem(int(place[1]), "", f"column {place[2]}: {what}", _SYNTAX)
    return Problem(1 + text.rstrip("\n").count("\n"), "", f"at the end: {what}", _SYNTAX)


def _too_large(size: int, kind: Kind[Document]) -> Problem:
    return Problem(1, "", f"{size} bytes; {kind.most_bytes} at most", kind.too_large)
