"""Plots as SVG text: stacked areas, steps and spans over time. No library, nothing from the network.

Colours are the page's CSS variables, so that a plot is as light or dark as the page is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from simulations.fleet import duration

WIDTH: Final = 1040
LEFT: Final = 64
RIGHT: Final = 16
TOP: Final = 10
BOTTOM: Final = 28
ROW: Final = 28
_TICKS: Final = (
    1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200,
    86_400, 172_800, 259_200, 432_000, 604_800, 1_209_600, 2_592_000,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """One thing over time; ``colour`` is CSS."""

    name: str
    colour: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a row's time, with what people read when they point at it."""

    start: float
    end: float
    colour: str
    words: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of spans."""

    name: str
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where times and values are on the paper."""

    end: float
    top: float
    height: int

    def x(self, at: float) -> float:
        """Of a time."""
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, at / self.end if self.end else 0.0)

    def y(self, value: float) -> float:
        """Of a value."""
        share = value / self.top if self.top else 0.0
        return TOP + (self.height - TOP - BOTTOM) * (1.0 - share)


def stacked(times: Sequence[float], series: Sequence[Series], end: float, height: int = 260) -> str:
    """Areas upon each other: each value stands until the next."""
    totals = [sum(one.values[at] for one in series) for at in range(len(times))]
    frame = Frame(end, max([*totals, 1.0]), height)
    floor, parts = [0.0] * len(times), []
    for one in series:
        ceiling = [low + value for low, value in zip(floor, one.values, strict=True)]
        outline = _steps(frame, times, ceiling)
        back = _steps(frame, times, floor, backwards=True)
        parts.append(
            f'<path d="M{outline}L{back}Z" fill="{one.colour}"><title>{escape(one.name)}</title></path>'
        )
        floor = ceiling
    return _paper(frame, "".join(parts), counted)


def stepped(times: Sequence[float], series: Sequence[Series], end: float, height: int = 180) -> str:
    """Lines that stay where they are until the next value."""
    frame = Frame(
        end, max([max(one.values, default=0.0) for one in series], default=1.0) or 1.0, height
    )
    parts = [
        f'<path d="M{_steps(frame, times, one.values)}" fill="none" stroke="{one.colour}" '
        f'stroke-width="2" stroke-linejoin="round"><title>{escape(one.name)}</title></path>'
        for one in series
    ]
    biggest = frame.top >= 10_000
    return _paper(frame, "".join(parts), sized if biggest else counted)


def spans(rows: Sequence[Row], end: float) -> str:
    """One row under another, each a line of time."""
    height = TOP + ROW * len(rows) + BOTTOM
    frame, parts = Frame(end, 1.0, height), []
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        parts.append(f'<text class="row" x="{LEFT}" y="{y + 11}" dy="-1">{escape(row.name)}</text>')
        for one in row.spans:
            x, width = frame.x(one.start), max(2.0, frame.x(one.end) - frame.x(one.start))
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 15}" width="{width:.1f}" height="9" rx="2" '
                f'fill="{one.colour}"><title>{escape(one.title or one.words)}</title></rect>'
            )
    return _svg(height, _times(frame, grid=True) + "".join(parts))


def _paper(frame: Frame, inside: str, words: Callable[[float], str]) -> str:
    grid = []
    for value in _values(frame.top):
        y = frame.y(value)
        grid.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{words(value)}</text>'
        )
    return _svg(frame.height, inside + "".join(grid) + _times(frame, grid=False))


def _svg(height: int, inside: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" role="img" '
        f'xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    )


def _times(frame: Frame, *, grid: bool) -> str:
    step = next((one for one in _TICKS if frame.end / one <= 9), _TICKS[-1])
    found, at = [], 0.0
    foot = frame.height - BOTTOM
    while at <= frame.end:
        x = frame.x(at)
        if grid:
            found.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{foot}"/>')
        found.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{foot}" y2="{foot + 4}"/>'
            f'<text class="tick" x="{x:.1f}" y="{foot + 17}" text-anchor="middle">'
            f"{duration.worded(at) if at else '0'}</text>"
        )
        at += step
    return (
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{foot}" y2="{foot}"/>'
        + "".join(found)
    )


def _values(top: float) -> Sequence[float]:
    """Four round values up to the top, or fewer."""
    step = 1.0
    while top / step > 4:
        for factor in (2.0, 5.0, 10.0):
            if top / (step * factor) <= 4:
                return [step * factor * at for at in range(int(top / (step * factor)) + 1)]
        step *= 10.0
    return [step * at for at in range(int(top / step) + 1)]


def _steps(
    frame: Frame, times: Sequence[float], values: Sequence[float], *, backwards: bool = False
) -> str:
    """The corners of a line that changes only at each time."""
    corners: list[str] = []
    before = values[0]
    for at, value in zip(times, values, strict=True):
        if value != before:
            corners.append(f"{frame.x(at):.1f},{frame.y(before):.1f}")
        if value != before or not corners:
            corners.append(f"{frame.x(at):.1f},{frame.y(value):.1f}")
        before = value
    corners.append(f"{frame.x(frame.end):.1f},{frame.y(before):.1f}")
    return "L".join(reversed(corners) if backwards else corners)


def counted(value: float) -> str:
    """A number of things: ``12``, ``3k``."""
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"


def sized(value: float) -> str:
    """A number of bytes: ``3.2 MB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"
