"""Keeps what devices are told in step with what is wanted: gather, plan, check, record, send.

Level-triggered: a turn compares what is wanted of a device with what its newest directive says, until
they agree, and what it was told with what its reports show, so whatever was missed, by a crash or by
a link, is made up for. Nothing is signed twice: a directive is made only where it would say something
new, and sent again as it is.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from agent.clock import Clock
from agent.waiting import sleep_unless
from controller.errors import Conflict, DeviceOffline, StoreError
from controller.rollout.check import InvalidPlan, directive_violations
from controller.rollout.draft import Plan
from controller.rollout.explain import named
from controller.rollout.rollout import SignedDirective
from controller.rollout.turn.actions import Tenure, Turn, take_turn
from controller.rollout.turn.books import Books
from controller.rollout.unheard import Unheard
from controller.signing.directive import signed
from controller.store.store import Store
from controller.transport.courier import Courier
from protos.documents import Directive
from protos.keys import Signer
from protos.v1 import command_pb2, common_pb2

INTERVAL_SECONDS = 30.0
REST_SECONDS = 0.2
"""At least so long between two turns, and as long as the last one took: a large fleet that reports
all the time must leave the controller half of its time for other things."""

AT_ONCE = 500
"""So many directives are signed, stored and sent before the next: a whole fleet's would keep others
waiting who write, and those of all devices from being sent if the last can't be stored."""

log = logging.getLogger(__name__)


class RolloutLoop:
    """Makes plans and carries them out, when woken and every ``interval`` seconds.

    Args:
        store: where everything stands.
        courier: brings directives to devices that have a link.
        director: signs directives; the devices know its key from the signed ``targets``.
        clock: the time.
        interval: seconds between turns that nobody asked for.
        holder: names this controller among those that share the store: one of them acts.
    """

    def __init__(
        self,
        store: Store,
        courier: Courier,
        director: Signer,
        clock: Clock,
        interval: float = INTERVAL_SECONDS,
        holder: str = "controller",
    ) -> None:
        self._store = store
        self._courier = courier
        self._director = director
        self._clock = clock
        self._interval = interval
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()
        self._running: asyncio.AbstractEventLoop | None = None
        # This loop alone writes directives, so it reads each once.
        self._books = Books()
        self._unheard = Unheard()
        self._sent: dict[str, int] = {}  # the generation that each device was sent last
        self._seen = 0  # the store's revision, as far as others' directives were looked for
        self._tenure = Tenure(holder)

    def wake(self) -> None:
        """Something has changed: plan soon. From any thread; many calls make one turn."""
        running = self._running
        if running is None:
            self._woken.set()
        elif not running.is_closed():
            running.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Until cancelled."""
        self._running = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            began, pause = self._clock.monotonic(), self._interval
            try:
                made = await self.turn()
                pause = min(pause, made.again_at - self._clock.now().timestamp())
                if not made.empty:
                    self._woken.set()  # what was recorded may allow the next step
            except Exception:
                log.exception("rollout.turn_failed")
            await self._clock.sleep(max(REST_SECONDS, self._clock.monotonic() - began))
            await sleep_unless(self._clock, max(pause, 0.0), self._woken)

    async def turn(self) -> Plan:
        """One plan, recorded and sent; returns it.

        Raises:
            InvalidPlan: the plan breaks a rule; nothing was recorded or sent.
            Conflict: somebody else has written directives; the next turn reads them.
            StoreError: nothing was recorded; the next turn tries again.
        """
        async with self._turn:
            try:
                return await self._one_turn(self._clock.now().timestamp())
            except StoreError:
                self._tenure.doubt()  # what was granted may have been rolled back
                raise

    async def _one_turn(self, now: float) -> Plan:
        waited = not self._tenure.unbroken(now)
        if waited:
            await asyncio.to_thread(self._take_over, now)
        taken = await asyncio.to_thread(self._take_turn, now)
        for first in range(0, len(taken.due), AT_ONCE):
            due = taken.due[first : first + AT_ONCE]
            for one in await asyncio.to_thread(self._sign, due):
                await self._send(one)
        if not self._tenure.unbroken(now) or (waited and self._seen):
            for one in await asyncio.to_thread(self._signed_elsewhere):
                await self._send(one)
        for one in await self._missed():
            await self._send(one)
        return taken.plan

    async def connected(self, device: str) -> None:
        """A link has come up: the device is told its newest directive again, and may match more."""
        newest = await asyncio.to_thread(self._stored, device)
        known = self._books.newest.get(device)
        # A turn may have signed another since this one was read: then it sends that one itself, and
        # what comes last is what the device is told.
        overtaken = newest and known and known.generation > newest.generation
        if newest is not None and not overtaken:
            await self._send(newest)
        self.wake()

    def _take_turn(self, now: float) -> Turn:
        try:
            return take_turn(self._store, self._books, self._tenure, now)
        except (StoreError, Conflict):
            raise
        except BaseException:
            self._books.clear()  # a ledger that was interrupted, or is wrong, is made anew
            raise

    def _take_over(self, now: float) -> None:
        """Begins to act, if no other controller does: what is known of links and directives is old.

        Whoever acted before may have been killed, and noted no more who went; devices whose link is
        to yet another controller are online again when they are next heard.
        """
        self._books.clear()
        with self._store.begin() as tx:
            if self._tenure.renew(tx, now):
                tx.devices.disconnect_all(self._courier.connected())

    def _sign(self, due: Sequence[Directive]) -> tuple[SignedDirective, ...]:
        """Seals and stores; signing may be slow, so it holds no transaction."""
        sealed = [
            SignedDirective(one.device, one.generation, signed(one, self._director), one.issued_at)
            for one in due
        ]
        broken = [
            line
            for one in due
            for line in directive_violations(self._books.newest[one.device], one)
        ]
        if broken:
            raise InvalidPlan("; ".join(broken))
        try:
            with self._store.begin() as tx:
                self._tenure.require(tx, self._clock.now().timestamp())
                for one in sealed:
                    tx.rollouts.put_directive(one)
        except Conflict:
            self._books.clear()  # somebody else has written: the next turn reads it all again
            raise
        self._books.newest.update({one.device: one for one in due})
        log.info("rollout.directives_signed count=%d", len(sealed))
        return tuple(sealed)

    def _signed_elsewhere(self) -> tuple[SignedDirective, ...]:
        """What the controller that acts has signed for devices whose link is to this one."""
        with self._store.read() as tx:
            changed = tx.changes.since(self._seen)
            linked = self._courier.connected()  # who connects after this reads no less than this
            found = [tx.rollouts.directive(one) for one in changed.ids if one in linked]
        self._seen = changed.revision
        return tuple(one for one in found if one and one.generation > self._sent.get(one.device, 0))

    def _stored(self, device: str) -> SignedDirective | None:
        with self._store.read() as tx:
            return tx.rollouts.directive(device)

    async def _missed(self) -> Sequence[SignedDirective]:
        """Directives of devices that have a link, and have not shown for long that they know."""
        due = self._unheard.due(self._courier.connected(), self._clock.monotonic())
        if not due:
            return ()
        acted = await asyncio.to_thread(self._acted_on, due)
        for device, generation in acted.items():
            self._unheard.reported(device, generation)
        behind = [device for device in due if acted[device] < due[device]]
        stored = [await asyncio.to_thread(self._stored, device) for device in behind]
        if behind:
            log.info("rollout.told_again devices=%s", named(behind))
        return [one for one in stored if one is not None]

    def _acted_on(self, devices: Iterable[str]) -> dict[str, int]:
        """Which generation each device's newest report is of; 0 if it has told of none."""
        with self._store.read() as tx:
            newest = {device: tx.telemetry.reports(device, limit=1) for device in devices}
        return {device: found[0].generation if found else 0 for device, found in newest.items()}

    async def _send(self, newest: SignedDirective) -> None:
        try:
            await self._courier.send(newest.device, directive_command(newest))
        except DeviceOffline:
            # It is told when it connects.
            log.debug("rollout.device_offline device=%s", newest.device)
            self._unheard.gone(newest.device)
            self._sent.pop(newest.device, None)
        else:
            self._sent[newest.device] = newest.generation
            self._unheard.told(newest.device, newest.generation, self._clock.monotonic())


def directive_command(directive: SignedDirective) -> bytes:
    """The serialised ``muster.v1.Command`` that carries the directive."""
    envelope = common_pb2.Envelope.FromString(directive.envelope)
    return command_pb2.Command(directive=envelope).SerializeToString()
