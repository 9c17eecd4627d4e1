"""What happened, in order: shown while it happens, and kept as evidence."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the story. ``at`` is seconds since it began; ``held`` is what was observed."""

    at: float
    chapter: str
    line: str
    held: bool


class Timeline:
    """Collects moments, and shows what is being waited for until it is there."""

    def __init__(self, console: Console) -> None:
        self.moments: list[Moment] = []
        self._console = console
        self._began = time.monotonic()
        self._chapter = ""

    @property
    def seconds(self) -> float:
        """Since the story began."""
        return time.monotonic() - self._began

    def chapter(self, title: str) -> None:
        """Begins a chapter."""
        self._chapter = title
        self._console.print(f"\n[bold]{title}[/bold]")

    def saw(self, line: str, *, held: bool = True) -> None:
        """Notes what was observed; ``held`` says whether it is what must be."""
        moment = Moment(round(self.seconds, 2), self._chapter, line, held)
        self.moments.append(moment)
        mark = "[green]✓[/green]" if held else "[red]✗[/red]"
        self._console.print(f"  {moment.at:6.1f} s  {mark} {escape(line)}", highlight=False)

    @contextmanager
    def waiting(self, for_what: str) -> Iterator[None]:
        """Shows a spinner while the block runs."""
        with self._console.status(f"{for_what} …", spinner="dots"):
            yield

    def failed(self) -> list[Moment]:
        """The moments that were not as they must be."""
        return [moment for moment in self.moments if not moment.held]
