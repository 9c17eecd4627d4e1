"""One HTML file that tells how a simulation went: plots, expectations and the transcript.

It needs nothing but itself: no script, style, font or picture from elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Final

from simulations.fleet import duration, plot
from simulations.fleet.expectations import Finding
from simulations.fleet.page_style import SCRIPT, STYLE
from simulations.fleet.simulation import Cost, Simulation
from simulations.fleet.tally import Doing, Part, Point
from simulations.fleet.track import Span, Track
from simulations.fleet.transcript import OVER, UNJUDGED

_HUES: Final = ("--v1", "--v2", "--v3", "--v4", "--v5", "--v6")
_ORDER: Final = (Doing.RUNS, Doing.PROBATION, Doing.INSTALLING, Doing.REFUSED, Doing.NOTHING)
_STATES: Final = {
    "running": "--good",
    "open": "--good",
    "passed": "--done",
    "succeeded": "--done",
    "paused": "--warn",
    "held": "--wait",
    "pending": "--wait",
    "breached": "--bad",
    "failed": "--bad",
    "reverted": "--bad",
    "rolling-back": "--bad",
    "rolled-back": "--bad",
    "aborted": "--bad",
    "superseded": "--away",
    "undecided": "--warn",
    UNJUDGED: "--wait",
    OVER: "--wait",
}
_QUIET: Final = frozenset({"pending", "held", UNJUDGED, OVER})
MOST_DRAWN: Final = 400
EMPTY: Final = '<p class="none">None.</p>'


def page(simulation: Simulation, cost: Cost, findings: Sequence[Finding]) -> str:
    """The whole file."""
    tally, end = simulation.ground.tally, _end(simulation)
    points = _thinned(tally.points)
    times = [point.at for point in points]
    sections = (
        _section(
            "Devices", "What they run, and what they are about.", *_adoption(points, times, end)
        ),
        _section(
            "Rollouts",
            "What opened and closed their stages, and why.",
            *_lanes(simulation.transcript.track, end),
        ),
        _section(
            "Gates",
            "What each gate said when it was asked, and what it had compared.",
            *_lanes(simulation.transcript.gates, end),
        ),
        _section(
            "Failures",
            "Installs that devices refused, by reason, in all.",
            *_failures(points, times, end),
        ),
        _section(
            "On the wire",
            "Versions that devices fetched; directives and reports.",
            *_bytes(points, times, end),
        ),
        _section("Transcript", "", _transcript(simulation)),
    )
    title = escape(simulation.scenario.title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main><header><h1>{title}</h1>"
        f"{_facts(simulation, cost)}{_expected(findings)}</header>"
        f"{''.join(sections)}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _end(simulation: Simulation) -> float:
    """Until a while after the last change: a plot of a quiet week shows nothing."""
    points = simulation.ground.tally.points
    changes = [after.at for before, after in pairwise(points) if _differs(before, after)]
    said = [line.at for line in simulation.transcript.lines]
    last = max([*changes, *said, 60.0])
    return min(simulation.scenario.until, last * 1.05)


def _differs(before: Point, after: Point) -> bool:
    return (before.parts, before.away, before.failures) != (after.parts, after.away, after.failures)


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    stride = max(1, len(points) // MOST_DRAWN)
    kept = list(points[::stride])
    return kept if kept[-1] is points[-1] else [*kept, points[-1]]


def _facts(simulation: Simulation, cost: Cost) -> str:
    tally = simulation.ground.tally
    facts = (
        ("devices", f"{len(simulation.devices):,}"),
        ("time", duration.worded(simulation.scenario.until)),
        ("seed", str(simulation.seed)),
        ("plans", f"{cost.turns:,}"),
        ("events", f"{cost.events:,}"),
        ("messages", f"{tally.messages:,}"),
        ("fetched", plot.sized(tally.fetched_bytes)),
    )
    cells = "".join(f"<div><dd>{value}</dd><dt>{name}</dt></div>" for name, value in facts)
    return f'<dl class="facts">{cells}</dl>'


def _expected(findings: Iterable[Finding]) -> str:
    items = "".join(
        f'<li class="{"yes" if one.holds else "no"}"><b>{escape(one.expectation.text)}</b> '
        f"<span>{escape(one.found)}</span></li>"
        for one in findings
    )
    return f'<ul class="expected">{items}</ul>' if items else ""


def _section(title: str, words: str, *inside: str) -> str:
    lead = f"<p>{escape(words)}</p>" if words else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{''.join(inside)}</section>"


def _legend(series: Iterable[plot.Series]) -> str:
    keys = "".join(
        f'<span><i style="background:{one.colour}"></i>{escape(one.name)}</span>' for one in series
    )
    return f'<div class="legend">{keys}</div>'


def _adoption(points: Sequence[Point], times: Sequence[float], end: float) -> tuple[str, ...]:
    parts = sorted({part for point in points for part in point.parts}, key=_rank)
    references = sorted({part.reference for part in parts if part.reference}, key=_number)
    hues = {reference: _HUES[at % len(_HUES)] for at, reference in enumerate(references)}
    series = [
        plot.Series(
            f"{part.doing} {part.reference}".strip(),
            _colour(part, hues),
            [point.parts.get(part, 0) for point in points],
        )
        for part in parts
    ]
    away = plot.Series("have no link", "var(--away)", [point.away for point in points])
    drawn = [plot.stacked(times, series, end), _legend(series)]
    if any(away.values):
        drawn += [plot.stepped(times, [away], end, 110), _legend([away])]
    return tuple(drawn)


def _number(reference: str) -> tuple[str, int]:
    model, number = reference.split("/")
    return model, int(number)


def _rank(part: Part) -> tuple[object, ...]:
    return (*(_number(part.reference) if part.reference else ("", 0)), _ORDER.index(part.doing))


def _colour(part: Part, hues: dict[str, str]) -> str:
    hue = f"var({hues.get(part.reference, '--none')})"
    match part.doing:
        case Doing.PROBATION:
            return f"color-mix(in oklab, {hue} 62%, var(--paper))"
        case Doing.INSTALLING:
            return f"color-mix(in oklab, {hue} 32%, var(--paper))"
        case Doing.REFUSED:
            return "var(--bad)"
        case _:
            return hue


def _lanes(track: Track, end: float) -> tuple[str, ...]:
    lanes = track.lanes(end)
    if not lanes:
        return (EMPTY,)
    rows = [
        plot.Row(lane, [_span(lane, one, end) for one in spans]) for lane, spans in lanes.items()
    ]
    drawn = {one.state for spans in lanes.values() for one in spans}
    keys: dict[str, list[str]] = {}
    for state, colour in _STATES.items():
        if state in drawn:
            keys.setdefault(colour, []).append(state.replace("-", " "))
    legend = [
        plot.Series(", ".join(states), f"var({colour})", ()) for colour, states in keys.items()
    ]
    return plot.spans(rows, end), _legend(legend), _changes(lanes)


def _changes(lanes: Mapping[str, Sequence[Span]]) -> str:
    """When what came to which state, and why."""
    found = sorted(
        ((span.start, lane, span) for lane, spans in lanes.items() for span in spans),
        key=lambda one: one[0],
    )
    rows = "".join(
        f"<tr><td>{duration.clock(at)}</td><td>{escape(lane)}</td>"
        f'<td><b style="color:var({_STATES.get(span.state, "--none")})">'
        f"{escape(span.state.replace('-', ' '))}</b> {escape(_said(lane, span))}</td></tr>"
        for at, lane, span in found
        if span.state not in _QUIET or span.reason
    )
    return f'<table class="changes"><tbody>{rows}</tbody></table>'


def _said(lane: str, span: Span) -> str:
    """The reason in a line: what else a stage's reason tells stands with its gates."""
    return span.reason.partition("\n")[0].removeprefix(f"{lane.rpartition('  ')[2]}: ")


def _span(lane: str, span: Span, end: float) -> plot.Span:
    colour = f"var({_STATES.get(span.state, '--none')})"
    title = f"{duration.clock(span.start)} {span.state}: {_said(lane, span)}"
    return plot.Span(span.start, min(span.end, end), colour, span.state, title.rstrip(": "))


def _failures(points: Sequence[Point], times: Sequence[float], end: float) -> tuple[str, ...]:
    codes = sorted({code for point in points for code in point.failures})
    series = [
        plot.Series(
            code,
            f"var({_HUES[::-1][at % len(_HUES)]})",
            [one.failures.get(code, 0) for one in points],
        )
        for at, code in enumerate(codes)
    ]
    return (plot.stepped(times, series, end), _legend(series)) if series else (EMPTY,)


def _bytes(points: Sequence[Point], times: Sequence[float], end: float) -> tuple[str, ...]:
    fetched = [plot.Series("versions", "var(--v2)", [one.fetched_bytes for one in points])]
    told = [
        plot.Series("directives", "var(--v3)", [one.down_bytes for one in points]),
        plot.Series("reports", "var(--v4)", [one.up_bytes for one in points]),
    ]
    return (
        plot.stepped(times, fetched, end, 130),
        _legend(fetched),
        plot.stepped(times, told, end, 130),
        _legend(told),
    )


def _transcript(simulation: Simulation) -> str:
    rows = "".join(
        f'<tr class="{escape(_class(line.who))}"><td>{duration.clock(line.at)}</td>'
        f"<td>{escape(line.who)}</td><td>{escape(line.text)}</td></tr>"
        for line in simulation.transcript.lines
    )
    return (
        '<input id="find" type="search" placeholder="Show lines with …" aria-label="Show lines with">'
        f'<table id="lines"><tbody>{rows}</tbody></table>'
    )


def _class(who: str) -> str:
    return who if who in {"devices", "fault", "controller", "ada"} else "rollout"
