"""What one way of carrying a run came to, and both beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from simulations.side_by_side.gauge import Memory


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run.

    Attributes:
        seconds: from the command to the result.
        seconds_a_round: from the first round's beginning to the last one's end, by rounds.
        idle, at_work: memory of a device, with all processes there: before, and at most during.
        centre: likewise at the centre, at most.
        up, down: bytes from and to all devices together, during the run.
    """

    way: str
    seconds: float
    seconds_a_round: float
    idle: Memory
    at_work: Memory
    centre: Memory
    up: int
    down: int


def table(rows: Sequence[Figures]) -> str:
    """In Markdown: a column for each."""
    kinds = [
        ("seconds from the command to the result", [f"{one.seconds:.1f}" for one in rows]),
        ("seconds a round", [f"{one.seconds_a_round:.2f}" for one in rows]),
        ("device, idle: MiB resident / shared out / its own", [_words(one.idle) for one in rows]),
        ("device, in a task: likewise, at most", [_words(one.at_work) for one in rows]),
        ("centre: likewise, at most", [_words(one.centre) for one in rows]),
        ("kB up, all devices and rounds", [f"{one.up / 1000:.0f}" for one in rows]),
        ("kB down, all devices and rounds", [f"{one.down / 1000:.0f}" for one in rows]),
    ]
    lines = [f"| | {' | '.join(one.way for one in rows)} |", "|---|" + "---|" * len(rows)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in kinds]
    return "\n".join(lines)


def _words(memory: Memory) -> str:
    return f"{memory.resident:.0f} / {memory.proportional:.0f} / {memory.own:.0f}"
