"""What happened, in lines that people read: what was decided and why, and what devices did, counted.

Devices that do the same within a while are one line. A plan's sentence is told when it is new: one that
only counts on from the last ("2 of 5 soaking", "3 of 5 soaking") is not.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from agent.install.change import Change
from controller.rollout.draft import Plan
from controller.rollout.explain import named, told
from controller.rollout.gate.judgement import GateVerdict
from controller.rollout.gate.look import LOOK_SECONDS
from controller.rollout.policy import Policy
from controller.rollout.progress import Progress
from controller.rollout.rollout import OPEN, StageState
from controller.rollout.staging import stages_of
from simulations.fleet import duration
from simulations.fleet.device import Device
from simulations.fleet.queue import Queue
from simulations.fleet.track import Track

_NUMBER: Final = re.compile(r"[0-9]+(?:[.,:][0-9]+)*")
_COUNTS_ON: Final = re.compile(
    r"releases|more wait|assigned|proven|not yet back|learn it|inferences|deferred|of the control group"
    r"|nobody is there"
)
"""Sentences that say the same with other numbers from one plan to the next."""
_WAITS: Final = re.compile(r"^[0-9]+ (?P<what>install|soak)")
_NAMES: Final = re.compile(r"[a-z]+-[0-9]{3,}(?:, [a-z]+-[0-9]{3,})*(?: and [0-9]+ more)?")
UNJUDGED: Final = "not judged yet"
OVER: Final = "over"
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


@dataclass(slots=True)
class _Counted:
    """Devices that did the same, and when the last one did."""

    devices: set[str] = field(default_factory=set)
    last: float = 0.0


@dataclass(eq=False)
class Transcript:
    """A ``Chronicle``, and what the controller and people say.

    Attributes:
        spread: devices that do the same within so many seconds are one line.
        track: of rollouts and their stages; ``gates`` of what each gate says.
    """

    queue: Queue
    spread: float
    lines: list[Line] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    track: Track = field(default_factory=Track)
    gates: Track = field(default_factory=Track)
    _pending: dict[tuple[str, str], _Counted] = field(default_factory=dict)
    _shapes: dict[str, set[str]] = field(default_factory=dict)
    _judged_at: dict[str, float] = field(default_factory=dict)

    def say(self, who: str, text: str) -> None:
        """A line, after those that wait."""
        self.flush()
        self.lines.append(Line(self.queue.now, who, text))

    def changed(self, device: Device, change: Change) -> None:
        """See ``Chronicle``."""
        if change.name == "install.failed":
            tally = device.ground.tally
            tally.failures[change.code] += 1
            tally.failed.setdefault(f"{change.model}/{change.version}", set()).add(device.number)
        elif change.name == "install.committed":
            committed = device.ground.tally.committed
            committed.setdefault(f"{change.model}/{change.version}", set()).add(device.number)
        told = _told(change.name, change.model, change.version, change.code)
        if told:
            self.count("devices", told, device.id)

    def happened(self, device: Device, what: str) -> None:
        """See ``Chronicle``."""
        self.count("devices", what, device.id)

    def count(self, who: str, what: str, device: str) -> None:
        """The device is one of those of whom a line will tell."""
        if not self._pending:
            self.queue.after(self.spread, self.flush)
        counted = self._pending.setdefault((who, what), _Counted())
        counted.devices.add(device)
        counted.last = self.queue.now

    def flush(self) -> None:
        """Tells what was counted."""
        pending, self._pending = self._pending, {}
        for (who, what), counted in sorted(pending.items(), key=lambda one: one[1].last):
            many = len(counted.devices)
            text = f"{many} devices {what}" if many > 3 else f"{what}: {named(counted.devices)}"
            self.lines.append(Line(counted.last, who, text))

    def plan(self, made: Plan) -> None:
        """What a plan says of each rollout, as far as it is new."""
        for one in made.progress:
            turned = self._note(one)
            rollout, (summary, *lines) = one.rollout.id, told(one)
            if turned:
                self._shapes.pop(rollout, None)
            self._tell(rollout, lines)
            if turned:
                self.say(rollout, summary)
        self._tell("controller", made.later)

    def _note(self, progress: Progress) -> bool:
        """Keeps track of the states; whether one has changed."""
        now, rollout = self.queue.now, progress.rollout
        turned = self.track.note(now, rollout.id, rollout.state, rollout.reason)
        names = [stage.name for stage in stages_of(rollout.policy, control=True)]
        for record in progress.stages:
            if record.state is not StageState.PENDING:
                lane, state = f"{rollout.id}  {names[record.number]}", str(record.state)
                if rollout.state not in OPEN and record.state in {StageState.OPEN, StageState.HELD}:
                    state = OVER
                turned |= self.track.note(now, lane, state, record.reason)
        self._note_gates(progress)
        return turned

    def _note_gates(self, progress: Progress) -> None:
        """What each gate says stands until it is asked again, and a breach for good.

        A gate that waits is asked every minute: of that only another verdict is kept.
        """
        rollout, now = progress.rollout, self.queue.now
        said = {one.name: one for one in progress.gates}
        asked_on = now - self._judged_at.get(rollout.id, -math.inf) < 2 * LOOK_SECONDS
        for name in gate_names(rollout.policy):
            lane, result = f"{rollout.id}  {name}", said.get(name)
            before = self.gates.state(lane)
            if result is not None:
                if before != result.verdict or not asked_on:
                    self.gates.note(now, lane, result.verdict, result.reason)
            elif not before:
                self.gates.note(now, lane, UNJUDGED)
            elif rollout.state not in OPEN and before != GateVerdict.BREACHED:
                self.gates.note(now, lane, OVER)
        if said:
            self._judged_at[rollout.id] = now

    def _tell(self, who: str, said: Sequence[str]) -> None:
        """The lines whose like was not said since a state changed."""
        known = self._shapes.setdefault(who, set())
        for line in said:
            like = likeness(line)
            if like not in known:
                known.add(like)
                self.say(who, line.strip())

    def text(self) -> str:
        """All lines."""
        return "".join(f"{line}\n" for line in self.lines)


def gate_names(policy: Policy) -> list[str]:
    """What the gates of all its stages are called, each once."""
    gates = [*policy.gates, *(gate for stage in policy.stages for gate in stage.gates)]
    own = [*policy.expressions, *(one for stage in policy.stages for one in stage.expressions)]
    found = [*(gate.metric.value for gate in gates), *(one.name for one in own)]
    return list(dict.fromkeys(found))


@cache
def _told(name: str, model: str, version: int, code: str) -> str:
    """What is told of a change; empty if nothing is."""
    return _TOLD.get(name, "").format(of=f"{model}/{version}", code=code, model=model)


def likeness(sentence: str) -> str:
    """What two sentences have in common of which one only counts on from the other."""
    stage, colon, rest = sentence.partition(": ")
    if colon and (waits := _WAITS.search(rest)):
        return f"{stage}: {waits['what']}"  # whether they install or soak is news, how many is not
    if _COUNTS_ON.search(sentence):
        return _NUMBER.sub("#", _NAMES.sub("@", sentence))
    return sentence
