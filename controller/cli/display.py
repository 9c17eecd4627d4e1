"""A text that changes while somebody watches."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from controller.cli.output import console, say

FURTHER: Final = "      "
"""Begins the further rows of a line that is too long for one."""


@contextmanager
def display() -> Iterator[Callable[[str], None]]:
    """Shows a text in its place in a terminal, as much of its end as fits; else every new text once."""
    if sys.stdout.isatty():
        with _in_place() as show:
            yield show
        return
    told: list[str] = []

    def show_new(text: str) -> None:
        if told[-1:] != [text]:
            told.append(text)
            _say_now(text)

    yield show_new


@contextmanager
def growing_display(passing: str) -> Iterator[Callable[[str], None]]:
    """As ``display``, of a text that grows: where it can't be shown in its place, every line once.

    Lines that begin with ``passing`` are shown in their place only.
    """
    if sys.stdout.isatty():
        with _in_place() as show:
            yield show
        return
    told: set[str] = set()

    def show_new(text: str) -> None:
        new = [
            line for line in text.splitlines() if line not in told and not line.startswith(passing)
        ]
        told.update(new)
        if new:
            _say_now("\n".join(new))

    yield show_new


def fitting(text: str, width: int, height: int) -> str:
    """Rows for a terminal of that size: the first line, and as many of the last as there is room for."""
    first, *rest = (_rows(line, width) for line in text.split("\n"))
    room = height - len(first) - 1
    kept: list[str] = []
    for rows in reversed(rest):
        room -= len(rows)
        if room < 0:
            kept = ["  …", *kept]
            break
        kept = [*rows, *kept]
    return "\n".join([*first, *kept])


def _rows(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent=FURTHER, drop_whitespace=True) or [""]


@contextmanager
def _in_place() -> Iterator[Callable[[str], None]]:
    from rich.live import Live  # noqa: PLC0415 - quick --help
    from rich.text import Text  # noqa: PLC0415

    shown = console()
    with Live(console=shown, refresh_per_second=4) as live:
        yield lambda text: live.update(Text(fitting(text, shown.width, shown.height - 1)))


def _say_now(text: str) -> None:
    say(text)
    sys.stdout.flush()
