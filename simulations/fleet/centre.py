"""The controller in virtual time: its own actions, plan and rules over the store's twin in memory.

The thin shell here does what ``controller.rollout.loop`` and ``controller.telemetry.actions`` do: when it
plans, what it records before what it sends, whom it tells again. It can crash in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.errors import Conflict
from controller.rollout.check import InvalidPlan, directive_violations
from controller.rollout.policy import Policy
from controller.rollout.rollout import FINAL, SignedDirective
from controller.rollout.turn.actions import directives_due, planned, record
from controller.rollout.unheard import Unheard
from protos.documents import Directive
from protos.envelope import peek
from simulations.fleet.device import Device
from simulations.fleet.ground import Ground, Packet, unsigned
from simulations.fleet.intake import take
from simulations.fleet.line import Line
from simulations.fleet.scenario import Moment
from simulations.fleet.transcript import Transcript
from simulations.memory_store import MemoryStore

LOOK_SECONDS: Final = 30.0
"""Between two plans that nobody asked for, while something is open."""
REST_SECONDS: Final = 0.2
SECONDS_PER_DEVICE: Final = 2e-4
"""What a plan takes a controller, and so how long it rests: a large fleet is looked at less often."""


class Crashed(Exception):
    """The controller is no more."""


@dataclass(eq=False)
class Controller:
    """A ``Centre``.

    Attributes:
        devices: by id.
        skew: seconds by which its clock is wrong.
        armed: where in a turn it crashes next, and for how long it is away then.
    """

    ground: Ground
    line: Line
    transcript: Transcript
    devices: Mapping[str, Device]
    policy: Policy
    store: MemoryStore = field(default_factory=MemoryStore)
    is_up: bool = True
    skew: float = 0.0
    armed: tuple[Moment, float] | None = None
    turns: int = 0
    _planned_at: float = -1e9
    _woken: bool = False
    _looking: bool = False
    _newest: dict[str, Directive | None] = field(default_factory=dict)
    _unheard: Unheard = field(default_factory=Unheard)

    def now(self) -> float:
        """Unix seconds by its own clock."""
        return self.ground.unix + self.skew

    # --- What devices do --------------------------------------------------------------------------

    def connected(self, device: Device) -> None:
        """A link has come up: the device is told its newest directive again, and may match more."""
        with self.store.begin() as tx:
            tx.devices.touch(device.id, self.now(), connected=True)
            newest = tx.rollouts.directive(device.id)
        if newest is not None:
            self._send(device, newest)
        self.wake()

    def lost(self, device: Device) -> None:
        """A link has ended."""
        if self.is_up:
            with self.store.begin() as tx:
                tx.devices.touch(device.id, self.now(), connected=False)
            self._unheard.gone(device.id)

    def upload(self, device: Device, packets: Sequence[Packet]) -> int:
        """Stores what is new of it; up to which sequence nothing needs to be sent again."""
        with self.store.begin() as tx:
            accepted = take(tx, device.id, packets, self.now())
        for one in accepted.rejected:
            self.transcript.count("controller", f"refuses a report: {one.code}", device.id)
        for report in accepted.reports:
            self._unheard.reported(device.id, report.stored.generation)
        if accepted.reports:
            self.wake()
        return accepted.through

    # --- Turns ------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something has changed: plans soon, once for all that changes until then."""
        if self._woken or not self.is_up:
            return
        self._woken = True
        rest = max(REST_SECONDS, SECONDS_PER_DEVICE * len(self.devices))
        self.ground.queue.at(self._planned_at + rest, self._turn)

    def _turn(self) -> None:
        self._woken = False
        if not self.is_up:
            return
        self._planned_at = self.ground.queue.now
        self.turns += 1
        try:
            self._plan_and_send()
        except Crashed:
            return
        self._look_again()

    def _look_again(self) -> None:
        """Plans again in a while, if something could change by then that nobody tells of."""
        if self._looking:
            return
        with self.store.read() as tx:
            opened = any(one.state not in FINAL for one in tx.rollouts.all())
        if opened or self._unheard.due(self.devices, float("inf")):
            self._looking = True
            pause = max(LOOK_SECONDS, 50 * SECONDS_PER_DEVICE * len(self.devices))
            self.ground.queue.after(pause, self._looked)

    def _looked(self) -> None:
        self._looking = False
        self.wake()

    def _plan_and_send(self) -> None:
        now = self.now()
        with self.store.read() as tx:
            facts, made = planned(tx, now)
            due = directives_due(tx, facts, self._newest, now) if made.empty else ()
        if not made.empty:
            with self.store.begin() as tx:
                facts, made = planned(tx, now)
                self._may_crash(Moment.BEFORE_RECORD)
                record(tx, made)
                due = directives_due(tx, facts, self._newest, now)
            self.transcript.plan(made.progress, made.later)
            self._may_crash(Moment.AFTER_RECORD)
            self.wake()  # what was recorded may allow the next step
        signed = self._sign(due)
        if signed:
            self._may_crash(Moment.AFTER_SIGNING)
        for number, one in enumerate((*signed, *self._missed())):
            if number and number >= len(signed) // 2:
                self._may_crash(Moment.HALF_SENT)
            self._send(self.devices[one.device], one)

    def _sign(self, due: Sequence[Directive]) -> tuple[SignedDirective, ...]:
        broken = [
            line for one in due for line in directive_violations(self._newest[one.device], one)
        ]
        if broken:
            raise InvalidPlan("; ".join(broken))
        sealed = [
            SignedDirective(one.device, one.generation, unsigned(one), one.issued_at) for one in due
        ]
        if sealed:
            try:
                with self.store.begin() as tx:
                    for one in sealed:
                        tx.rollouts.put_directive(one)
            except Conflict:
                self._newest.clear()
                raise
        self._newest.update({one.device: one for one in due})
        return tuple(sealed)

    def _missed(self) -> Sequence[SignedDirective]:
        online = {device.id for device in self.devices.values() if device.linked}
        due = self._unheard.due(online, self.ground.queue.now)
        with self.store.read() as tx:
            stored = [tx.rollouts.directive(device) for device in due]
        return [one for one in stored if one is not None]

    def _send(self, device: Device, newest: SignedDirective) -> None:
        if not device.linked:
            self._unheard.gone(device.id)
            return
        directive = self._newest.get(device.id)
        if directive is None or directive.generation != newest.generation:
            directive = peek(newest.envelope, Directive)
        self.line.send(device, directive, len(newest.envelope))
        self._unheard.told(device.id, newest.generation, self.ground.queue.now)

    # --- Crashes ----------------------------------------------------------------------------------

    def _may_crash(self, moment: Moment) -> None:
        if self.armed is not None and self.armed[0] is moment:
            away = self.armed[1]
            self.armed = None
            self.crash(away, f"crashes {moment.replace('-', ' ')}")
            raise Crashed

    def crash(self, seconds: float, how: str = "crashes") -> None:
        """Everything goes that is not stored; it is back after so long."""
        self.transcript.say("controller", f"{how}; back in {seconds:.0f} s")
        self.is_up = False
        for device in self.devices.values():
            self.line.hang_up(device)
        self._newest, self._unheard = {}, Unheard()
        self._woken = False
        self.ground.queue.after(seconds, self._start)

    def _start(self) -> None:
        self.transcript.say("controller", "starts again with what was stored")
        self.is_up = True
        with self.store.begin() as tx:
            tx.devices.disconnect_all()
        for device in self.devices.values():
            if not device.blocked and device.powered:
                self.line.dial(device)
        self.wake()
