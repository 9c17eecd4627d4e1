"""What commands print: a table for people, JSON for programs, errors with their remedy."""

import json
import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

GAP: Final = 2
INDENT: Final = "    "
PIPE_COLUMNS: Final = 240
"""The width of what rich draws for a file or another program."""
LEAST_WRAP: Final = 20
"""Text is not broken into columns narrower than this."""
MOST_SHOWN: Final = 2000
"""Characters of an error: what somebody passed by mistake may be a whole file."""

MOST_LINES: Final = 200
"""Lines of an error."""

_BACKTICKS: Final = re.compile("`([^`]*)`")


class Output(StrEnum):
    """``--output``."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="A table for people, or JSON for programs.")
]


class CommandFailed(Exception):
    """A command was refused or failed; the entry point prints it and exits with 1.

    Attributes:
        code: as the controller's or the agent's error.
        remedy: what to do about it; may be empty.
    """

    def __init__(self, code: str, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.remedy = remedy


def console(*, error: bool = False) -> "Console":
    """Standard output, or error, for what moves or has colour; plain where it is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - a third of a short command's time

    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else PIPE_COLUMNS
    return Console(highlight=False, soft_wrap=True, stderr=error, width=width)


def say(text: str = "") -> None:
    """Writes text to standard output; words in `backticks` stand out in a terminal."""
    sys.stdout.write(_emphasised(printable(text)) + "\n")


def show_json(value: object) -> None:
    """Writes indented JSON."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=False, default=str) + "\n")


def show_rows(rows: Sequence[Row], columns: Mapping[str, str], output: Output, empty: str) -> None:
    """Writes rows: all of their fields as JSON, or the named columns (field → title) as a table.

    In a terminal that is too narrow, the widest columns stand below their row. In a pipe every row is
    one line.
    """
    if output is Output.JSON:
        show_json(list(rows))
    elif rows:
        cells = [{field: cell(row.get(field)) for field in columns} for row in rows]
        header, *lines = table_lines(cells, columns, _width())
        _write([_bold(header), *lines])
    else:
        say(empty)


def show_fields(record: Row, titles: Mapping[str, str], output: Output) -> None:
    """Writes one record: as JSON, or the named fields one a line."""
    if output is Output.JSON:
        show_json(record)
        return
    broad = max(map(len, titles.values()))
    lines = []
    for field, title in titles.items():
        first, *rest = _wrapped(cell(record.get(field)), _width(), broad + GAP)
        lines.append(_bold(title.ljust(broad)) + " " * GAP + first)
        lines += [" " * (broad + GAP) + line for line in rest]
    _write(lines)


def table_lines(
    rows: Sequence[Mapping[str, str]], titles: Mapping[str, str], width: int | None
) -> list[str]:
    """A header and the rows, no line wider than ``width`` columns (None: without limit).

    A word that is wider stays whole, so that it can be copied.
    """
    broad = {
        field: max(map(_columns, (title, *(row[field] for row in rows))))
        for field, title in titles.items()
    }
    beside, below = _placed(rows, broad, width)
    lines = [_line({field: titles[field] for field in beside}, broad)]
    for row in rows:
        lines.append(_line({field: row[field] for field in beside}, broad))
        for field in below:
            if row[field] != "-":
                text = _wrapped(f"{titles[field]}: {row[field]}", width, len(INDENT))
                lines += [INDENT + line for line in text]
    return lines


def cell(value: object) -> str:
    """A value as people read it: no None, no braces, nothing that a terminal would act on."""
    if value is None or value in ("", [], {}, ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{printable(str(key))}={cell(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(cell(one) for one in value)
    return " ".join(printable(str(value)).split("\n"))


def counted(number: int, noun: str) -> str:
    """``1 device``, ``2 devices``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def note(text: str) -> None:
    """Tells something beside the output, on standard error: programs that read the output don't see it."""
    sys.stderr.write(f"note: {printable(_shortened(text))}\n")


def printable(text: str) -> str:
    """The text with its control characters shown and not sent: devices and models' authors wrote it."""
    return "".join(
        one if one == "\n" or unicodedata.category(one)[0] != "C" else repr(one)[1:-1]
        for one in text
    )


def fail(error: CommandFailed) -> NoReturn:
    """Writes what is wrong and what to do to standard error, and exits with 1."""
    first, *rest = error.detail.split("\n")[:MOST_LINES]
    sys.stderr.write(f"error: {printable(_shortened(first))} [{error.code}]\n")
    sys.stderr.writelines(f"{printable(_shortened(line))}\n" for line in rest)
    if error.remedy:
        sys.stderr.write(f"  what to do: {printable(error.remedy)}\n")
    raise SystemExit(1)


def _shortened(text: str) -> str:
    if len(text) <= MOST_SHOWN:
        return text
    half = MOST_SHOWN // 2
    return f"{text[:half]} … {text[-half:]}"


def _placed(
    rows: Sequence[Mapping[str, str]], broad: Mapping[str, int], width: int | None
) -> tuple[list[str], list[str]]:
    """The fields that stand beside each other, and those that stand below; the first stays."""
    beside, below = list(broad), []
    while width is not None and len(beside) > 1:
        if sum(broad[field] + GAP for field in beside) - GAP <= width:
            break
        empty = [one for one in beside[1:] if all(row[one] == "-" for row in rows)]
        widest = empty[0] if empty else max(beside[1:], key=lambda field: broad[field])
        beside.remove(widest)
        below.append(widest)
    return beside, [field for field in broad if field in below]


def _line(cells: Mapping[str, str], broad: Mapping[str, int]) -> str:
    padded = [text + " " * (broad[field] - _columns(text)) for field, text in cells.items()]
    return (" " * GAP).join(padded).rstrip()


def _wrapped(text: str, width: int | None, indent: int) -> list[str]:
    if width is None:
        return [text]
    room = max(LEAST_WRAP, width - indent)
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def _width() -> int | None:
    """Of the terminal; None where it is none: lines for other programs are not broken."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _styled() -> bool:
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if _styled() else text


def _emphasised(text: str) -> str:
    return _BACKTICKS.sub(lambda found: _bold(found[1]), text) if _styled() else text


def _write(lines: Sequence[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
