"""What one way of carrying a run came to, and both beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run.

    Attributes:
        seconds: from the command to the result.
        seconds_a_round: from the first round's beginning to the last one's end, by rounds.
        idle, at_work: MiB resident on a device, with all processes there: before, and at most during.
        centre: likewise at the centre, at most.
        up, down: bytes from and to all devices together, during the run.
    """

    way: str
    seconds: float
    seconds_a_round: float
    idle: float
    at_work: float
    centre: float
    up: int
    down: int


def table(rows: Sequence[Figures]) -> str:
    """In Markdown: a column for each."""
    kinds = [
        ("seconds from the command to the result", [f"{one.seconds:.1f}" for one in rows]),
        ("seconds a round", [f"{one.seconds_a_round:.2f}" for one in rows]),
        ("device, idle: MiB resident", [f"{one.idle:.0f}" for one in rows]),
        ("device, in a task: MiB resident at most", [f"{one.at_work:.0f}" for one in rows]),
        ("centre: MiB resident at most", [f"{one.centre:.0f}" for one in rows]),
        ("kB up, all devices and rounds", [f"{one.up / 1000:.0f}" for one in rows]),
        ("kB down, all devices and rounds", [f"{one.down / 1000:.0f}" for one in rows]),
    ]
    lines = [f"| | {' | '.join(one.way for one in rows)} |", "|---|" + "---|" * len(rows)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in kinds]
    return "\n".join(lines)
