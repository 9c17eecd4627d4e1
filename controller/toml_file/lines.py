"""In which line of a TOML document each key stands.

``tomllib`` tells values without their places, and so does tomlkit (its issue 55). This reads the
text once more, after ``tomllib`` has: it may rely on every rule of TOML 1.0 being kept, and so has
to find out only where names, values and tables begin.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import Final

Path = tuple[str | int, ...]
"""Keys, and the numbers of entries from 0: ``("stages", 1, "soak")``."""

_BLANK: Final = re.compile(r"[ \t]*")
_FILL: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_ATOM: Final = re.compile(r"[^,\]}#\r\n]+")
_OPENING: Final = re.compile(r"\[{1,2}")
_CLOSING: Final = re.compile(r"[ \t]*\]{1,2}")
_EQUALS: Final = re.compile(r"[ \t]*=[ \t]*")
# Strings of many lines first; up to two quotes may stand before those that close them.
_TEXT: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)


def key_lines(text: str) -> Mapping[Path, int]:
    """The line, from 1, where each key, table and entry of a list first stands.

    ``text`` must be valid TOML.

    Raises:
        ValueError: it is not.
        RecursionError: values are nested deeper than anybody would write.
    """
    reader = _Reader(text)
    reader.document()
    return reader.found


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of ``path``, or of the nearest that it stands in; 1 if nothing of it is there."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Reader:
    """One pass over the text; each method reads what it is named for and stops behind it."""

    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._counted = 0
        self._line = 1
        self._entries: dict[Path, int] = {}  # of arrays of tables: how many so far

    def document(self) -> None:
        table: Path = ()
        self._skip(_FILL)
        while self._at < len(self._text):
            table = self._header() if self._next("[") else self._pair(table)
            self._skip(_FILL)

    def _header(self) -> Path:
        line, begin = self._here(), self._at
        self._skip(_OPENING)
        repeated = self._at - begin == 2
        *above, last = self._names()
        self._skip(_CLOSING)
        table: Path = ()
        for name in above:
            table = self._inside((*table, name))
            self._note(table, line)
        table = (*table, last)
        self._note(table, line)
        if repeated:
            number = self._entries.get(table, 0)
            self._entries[table] = number + 1
            table = (*table, number)
            self._note(table, line)
        return table

    def _pair(self, table: Path) -> Path:
        """Reads ``names = value`` in ``table``, which it returns."""
        line, path = self._here(), table
        for name in self._names():
            path = (*path, name)
            self._note(path, line)
        self._skip(_EQUALS)
        self._value(path)
        return table

    def _names(self) -> list[str]:
        names = [self._name()]
        self._skip(_BLANK)
        while self._next("."):
            self._at += 1
            names.append(self._name())
            self._skip(_BLANK)
        return names

    def _name(self) -> str:
        self._skip(_BLANK)
        begin = self._at
        if not (self._next('"') or self._next("'")):
            self._skip(_BARE)
            return self._text[begin : self._at]
        self._skip(_TEXT)
        return str(tomllib.loads(f"name = {self._text[begin : self._at]}")["name"])

    def _value(self, path: Path) -> None:
        begin = self._at
        if self._next("["):
            self._list(path)
        elif self._next("{"):
            self._inline_table(path)
        else:
            quoted = self._next('"') or self._next("'")
            self._skip(_TEXT if quoted else _ATOM)
        if self._at == begin:
            raise ValueError(f"line {self._here()} is not TOML")

    def _list(self, path: Path) -> None:
        self._at += 1
        self._skip(_FILL)
        number = 0
        while not self._next("]"):
            self._note((*path, number), self._here())
            self._value((*path, number))
            number += 1
            self._skip(_FILL)
            if self._next(","):
                self._at += 1
                self._skip(_FILL)
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        self._skip(_FILL)
        while not self._next("}"):
            self._pair(path)
            self._skip(_FILL)
            if self._next(","):
                self._at += 1
                self._skip(_FILL)
        self._at += 1

    def _inside(self, table: Path) -> Path:
        """The table itself, or the newest of the tables that bear its name."""
        number = self._entries.get(table, 0)
        return (*table, number - 1) if number else table

    def _note(self, path: Path, line: int) -> None:
        self.found.setdefault(path, line)

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _next(self, mark: str) -> bool:
        return self._text.startswith(mark, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
