"""What happened, in lines that people read: what was decided and why, and what devices did, counted.

Devices that do the same within a while are one line. A plan's sentence is told when it is new: one that
only counts on from the last ("2 of 5 soaking", "3 of 5 soaking") is not.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.install.change import Change
from controller.rollout.account import Progress
from controller.rollout.explain import named
from simulations.fleet import duration
from simulations.fleet.device import Device
from simulations.fleet.queue import Queue
from simulations.fleet.track import Track

_NUMBER: Final = re.compile(r"[0-9]+(?:[.,:][0-9]+)*")
_NAMES: Final = re.compile(r"[a-z]+-[0-9]{3,}(?:, [a-z]+-[0-9]{3,})*(?: and [0-9]+ more)?")
_TOLD: Final = {
    "install.verifying": "begin {of}",
    "install.committed": "commit {of}",
    "install.failed": "refuse {of} ({code}) and keep what they ran",
    "install.deferred": "put off {of} ({code})",
    "slot.retired": "stop running {model}",
    "quarantine.lifted": "may try {of} again",
}


@dataclass(frozen=True, slots=True)
class Line:
    """Who did what at a time, in seconds since the beginning."""

    at: float
    who: str
    text: str

    def __str__(self) -> str:
        return f"{duration.clock(self.at):>12}  {self.who:<10}  {self.text}"


@dataclass(eq=False)
class Transcript:
    """A ``Chronicle``, and what the controller and people say.

    Attributes:
        spread: devices that do the same within so many seconds are one line.
    """

    queue: Queue
    spread: float
    lines: list[Line] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    track: Track = field(default_factory=Track)
    _pending: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _shapes: dict[str, frozenset[str]] = field(default_factory=dict)

    def say(self, who: str, text: str) -> None:
        """A line, after those that wait."""
        self.flush()
        self.lines.append(Line(self.queue.now, who, text))

    def changed(self, device: Device, change: Change) -> None:
        """See ``Chronicle``."""
        told = _TOLD.get(change.name)
        if change.name == "install.failed":
            tally = device.ground.tally
            tally.failures[change.code] += 1
            tally.failed.setdefault(f"{change.model}/{change.version}", set()).add(device.number)
        elif change.name == "install.committed":
            committed = device.ground.tally.committed
            committed.setdefault(f"{change.model}/{change.version}", set()).add(device.number)
        if told is not None:
            of = f"{change.model}/{change.version}"
            self.count(
                "devices", told.format(of=of, code=change.code, model=change.model), device.id
            )

    def happened(self, device: Device, what: str) -> None:
        """See ``Chronicle``."""
        self.count("devices", what, device.id)

    def count(self, who: str, what: str, device: str) -> None:
        """The device is one of those of whom a line will tell."""
        if not self._pending:
            self.queue.after(self.spread, self.flush)
        self._pending.setdefault((who, what), []).append(device)

    def flush(self) -> None:
        """Tells what was counted."""
        pending, self._pending = self._pending, {}
        for (who, what), devices in pending.items():
            distinct = sorted(set(devices))
            many = f"{len(distinct)} devices" if len(distinct) > 1 else "1 device"
            text = f"{many} {what}" if len(distinct) > 3 else f"{what}: {named(distinct)}"
            self.lines.append(Line(self.queue.now, who, text))

    def plan(self, progress: Sequence[Progress], also: Sequence[str]) -> None:
        """What a plan says of each rollout, as far as it is new."""
        for one in progress:
            rollout = one.rollout
            self.track.note(self.queue.now, rollout.id, rollout.state, one.lines[-1].strip())
            self._tell(rollout.id, one.lines)
        self._tell("", also)

    def _tell(self, rollout: str, said: Sequence[str]) -> None:
        shapes = frozenset(map(shape, said))
        before = self._shapes.get(rollout, frozenset())
        if not shapes <= before:
            for line in said:
                if shape(line) not in before:
                    self.say(rollout or "controller", line.strip())
        self._shapes[rollout] = shapes

    def text(self) -> str:
        """All lines."""
        return "".join(f"{line}\n" for line in self.lines)


def shape(sentence: str) -> str:
    """The sentence without what counts on."""
    return _NUMBER.sub("#", _NAMES.sub("@", sentence))
