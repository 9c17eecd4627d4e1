"""The controller in virtual time: its own actions, plan and rules over the store's twin in memory.

The thin shell here does what ``controller.rollout.loop`` does: when it takes turns, what it records
before what it sends, whom it tells again. It can crash in between.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.rollout.check import InvalidPlan, directive_violations
from controller.rollout.draft import Plan
from controller.rollout.policy import Policy
from controller.rollout.rollout import SignedDirective
from controller.rollout.standing import Outcome
from controller.rollout.turn.actions import Tenure, take_turn
from controller.rollout.turn.books import Books
from controller.rollout.unheard import Unheard
from protos.documents import Directive
from protos.envelope import peek
from simulations.fleet.device import Device
from simulations.fleet.fragile_store import Crashed, FragileStore
from simulations.fleet.ground import Ground, Packet, unsigned
from simulations.fleet.intake import take
from simulations.fleet.line import Line
from simulations.fleet.scenario import Moment
from simulations.fleet.transcript import Transcript

HOLDER: Final = "controller"
LOOK_SECONDS: Final = 30.0
"""How often it is looked whether what was told was heard."""
REST_SECONDS: Final = 0.2
SECONDS_PER_DEVICE: Final = 2e-4
"""What a plan takes a controller, and so how long it rests: a large fleet is looked at less often."""
HEARTBEAT_SECONDS: Final = 1800.0
"""A device that is waited for is heard at least so often: its time online counts on."""


@dataclass(frozen=True, slots=True)
class _Linked(Collection[str]):
    """The devices that have a link now; asked, not counted."""

    devices: Mapping[str, Device]

    def __contains__(self, device: object) -> bool:
        return isinstance(device, str) and self.devices[device].linked

    def __iter__(self) -> Iterator[str]:
        return (one.id for one in self.devices.values() if one.linked)

    def __len__(self) -> int:
        return sum(one.linked for one in self.devices.values())


@dataclass(eq=False)
class Controller:
    """A ``Centre``.

    Attributes:
        devices: by id.
        skew: seconds by which its clock is wrong.
        on_turn: called after every turn.
        away: for how long it is away when it crashes next.
    """

    ground: Ground
    line: Line
    transcript: Transcript
    devices: Mapping[str, Device]
    policy: Policy
    store: FragileStore
    is_up: bool = True
    skew: float = 0.0
    away: float = 60.0
    on_turn: Callable[[], None] = lambda: None
    turns: int = 0
    _planned_at: float = -1e9
    _woken: bool = False
    _hearing: bool = False
    _look_at: float = 0.0
    _books: Books = field(default_factory=Books)
    _unheard: Unheard = field(default_factory=Unheard)
    _tenure: Tenure = field(default_factory=lambda: Tenure(HOLDER))

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
        self.ground.queue.at(self._planned_at + self._rest(), self._turn)

    def _turn(self) -> None:
        self._woken = False
        if not self.is_up:
            return
        self._planned_at = self.ground.queue.now
        self.turns += 1
        self.store.in_turn = True
        try:
            made = self._plan_and_send()
        except Crashed as how:
            self.store.in_turn = False
            self.crash(str(how))
            return
        self.store.in_turn = False
        if not made.empty:
            self.wake()  # what was recorded may allow the next step
        self._look_again(made)
        self.on_turn()

    def _look_again(self, made: Plan) -> None:
        """Plans again when time alone may ask for it, or a device must be told again."""
        pause = made.again_at - self.now()
        if self._unheard.due(self.devices, math.inf):
            pause = min(pause, LOOK_SECONDS)
        queue = self.ground.queue
        if pause < math.inf:
            self._look_at = queue.now + max(pause, self._rest())
            queue.at(self._look_at, self._looked)
        if not self._hearing and any(one.count(Outcome.WAITING) for one in made.progress):
            self._hearing = True
            queue.after(HEARTBEAT_SECONDS, self._hear)

    def _looked(self) -> None:
        if self.ground.queue.now >= self._look_at:  # else another time was found since
            self.wake()

    def _hear(self) -> None:
        """Every device that has something under way says that it is there."""
        self._hearing = False
        busy = [one for one in self.devices.values() if one.linked and one.is_busy()]
        if not (busy and self.is_up):
            return
        with self.store.begin() as tx:
            for device in busy:
                tx.devices.touch(device.id, self.now(), connected=True)
        self._hearing = True
        self.ground.queue.after(HEARTBEAT_SECONDS, self._hear)

    def _rest(self) -> float:
        return max(REST_SECONDS, SECONDS_PER_DEVICE * len(self.devices))

    def _plan_and_send(self) -> Plan:
        now = self.now()
        taken = take_turn(self.store, self._books, self._tenure, now)
        self.transcript.plan(taken.plan)
        signed = self._sign(taken.due)
        if signed:
            self.store.may_crash(Moment.AFTER_SIGNING)
        for number, one in enumerate((*signed, *self._missed())):
            if number and number >= len(signed) // 2:
                self.store.may_crash(Moment.HALF_SENT)
            self._send(self.devices[one.device], one)
        return taken.plan

    def _sign(self, due: Sequence[Directive]) -> tuple[SignedDirective, ...]:
        """Stores the directives, which nobody signs here."""
        broken = [
            line
            for one in due
            for line in directive_violations(self._books.newest[one.device], one)
        ]
        if broken:
            raise InvalidPlan("; ".join(broken))
        sealed = [
            SignedDirective(one.device, one.generation, unsigned(one), one.issued_at) for one in due
        ]
        if sealed:
            self.store.in_turn = False
            with self.store.begin() as tx:
                for one in sealed:
                    tx.rollouts.put_directive(one)
            self.store.in_turn = True
        self._books.newest.update({one.device: one for one in due})
        return tuple(sealed)

    def _missed(self) -> Sequence[SignedDirective]:
        """Directives of devices that have not shown for long that they know."""
        due = self._unheard.due(_Linked(self.devices), self.ground.queue.now)
        behind = []
        with self.store.read() as tx:
            for device, generation in due.items():
                newest = tx.telemetry.reports(device, limit=1)
                acted_on = newest[0].generation if newest else 0
                self._unheard.reported(device, acted_on)
                stored = tx.rollouts.directive(device)
                if acted_on < generation and stored is not None:
                    behind.append(stored)
        return behind

    def _send(self, device: Device, newest: SignedDirective) -> None:
        if not device.linked:
            self._unheard.gone(device.id)
            return
        directive = self._books.newest.get(device.id)
        if directive is None or directive.generation != newest.generation:
            directive = peek(newest.envelope, Directive)
        self.line.send(device, directive, len(newest.envelope))
        self._unheard.told(device.id, newest.generation, self.ground.queue.now)

    # --- Crashes ----------------------------------------------------------------------------------

    def crash(self, how: str = "crashes") -> None:
        """Everything goes that is not stored; it is back after a while."""
        self.transcript.say("controller", f"{how}; back in {self.away:.0f} s")
        self.is_up = False
        for device in self.devices.values():
            self.line.hang_up(device)
        self._books, self._unheard, self._tenure = Books(), Unheard(), Tenure(HOLDER)
        self._woken = False
        self.ground.queue.after(self.away, self._start)

    def _start(self) -> None:
        self.transcript.say("controller", "starts again with what was stored")
        self.is_up = True
        with self.store.begin() as tx:
            tx.devices.disconnect_all()
        for device in self.devices.values():
            if not device.blocked and device.powered:
                self.line.dial(device)
        self.wake()
