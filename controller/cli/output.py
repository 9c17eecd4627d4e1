"""What commands print: a table for people, JSON for programs, errors with their remedy."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Row = Mapping[str, Any]


class Output(StrEnum):
    """``--output``."""

    TABLE = "table"
    JSON = "json"


PIPE_COLUMNS: Final = 240
"""Lines that go to a file or another program are not broken at 80 columns."""

OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]


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


def console(*, error: bool = False) -> Console:
    """Standard output, or error; without colour or control codes where it is no terminal."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else PIPE_COLUMNS
    return Console(highlight=False, soft_wrap=True, stderr=error, width=width)


def show_json(value: object) -> None:
    """Writes indented JSON."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=False, default=str) + "\n")


def show_rows(rows: Sequence[Row], columns: Mapping[str, str], output: Output, empty: str) -> None:
    """Writes rows: all of their fields as JSON, or the named columns (field → title) as a table."""
    if output is Output.JSON:
        show_json(list(rows))
        return
    if not rows:
        console().print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns.values():
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell(row.get(field))) for field in columns))
    console().print(table)


def show_fields(record: Row, titles: Mapping[str, str], output: Output) -> None:
    """Writes one record: as JSON, or the named fields one a line."""
    if output is Output.JSON:
        show_json(record)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for field, title in titles.items():
        table.add_row(title, escape(cell(record.get(field))))
    console().print(table)


def cell(value: object) -> str:
    """A value as people read it: no None, no braces."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={inner}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    return str(value)


def fail(error: CommandFailed) -> NoReturn:
    """Writes what is wrong and what to do to standard error, and exits with 1."""
    sys.stderr.write(f"error: {error.detail} [{error.code}]\n")
    if error.remedy:
        sys.stderr.write(f"  what to do: {error.remedy}\n")
    raise SystemExit(1)
