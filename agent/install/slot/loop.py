"""One slot's loop: what shall answer is loaded, and its install is led through the states.

The order at a switch, so that power may go between any two lines:

1. The candidate is loaded, beside what answers.
2. One transaction: the slot points at it, the install is on PROBATION. Before, a restart tests it
   again; after, a restart loads it and starts its probation over.
3. The candidate answers, and the version before it stays warm. Nothing waits between 2 and 3.

Going back is the same: REVERTING is written first, and from then on a restart, too, loads what the
slot goes back to and not what failed.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from msgspec.structs import replace

from agent.errors import AgentError, ModelLoadFailed, NotReady, ProbationFailed, StoreError
from agent.install.actions import Bench, Seat
from agent.install.edit import Edit, proven, put_back, rejected, switched
from agent.install.gates import window_gate
from agent.install.machine import FINAL, Event, State
from agent.install.outcome import Outcome, outcome_of
from agent.install.probation import Verdict, judge
from agent.install.progress import passed
from agent.install.record import Install, SlotKey
from agent.install.slot.actions import WORK, manifest_of, pass_gate
from agent.waiting import sleep_unless

log = logging.getLogger(__name__)


@dataclass(eq=False)
class SlotLoop:
    """Tends one slot until there is nothing left to do there.

    Attributes:
        nudge: set to have the loop try again at once what it waits for.
    """

    bench: Bench
    key: SlotKey
    nudge: asyncio.Event = field(default_factory=asyncio.Event)
    seat: Seat = field(init=False)
    _failures: int = 0  # in a row

    def __post_init__(self) -> None:
        """Takes the slot's seat."""
        self.seat = Seat(self.bench, self.key)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do."""
        install = self.seat.install
        under_way = install is not None and install.state not in FINAL
        return not under_way and self.seat.wanted == self.seat.standing.active

    async def run(self) -> None:
        """Returns when the slot is settled; until then tries, waits, and tries again."""
        while not self.is_settled:
            try:
                await self._once()
            except AgentError as error:  # what failed could not even be written down
                log.warning("install.stuck model=%s slot=%s detail=%s", *self.key, error.detail)
                await self._back_off()
            except Exception:
                log.exception("install.internal model=%s slot=%s", *self.key)
                await self._back_off()

    async def _once(self) -> None:
        """Loads what shall answer, then takes the install one state further."""
        await self.seat.restore()
        install = self.seat.install
        if not self.bench.resumed:
            await self._back_off()
            return
        if install is None or install.state in FINAL:
            if not self.is_settled:
                await self._pause(self.seat.wait_seconds)
            return
        due = min(install.not_before - self.bench.now(), self.bench.retry_cap_seconds)
        await self._pause(due)
        try:
            await self._advance(self._current())  # a directive may have renewed it meanwhile
            self._failures = 0
        except AgentError as error:
            await self._reject(outcome_of(error, install.tries + 1))

    async def _pause(self, seconds: float) -> None:
        """Waits, unless somebody wakes the loop, or has since it last waited."""
        if seconds > 0:
            await sleep_unless(self.bench.clock, seconds, self.nudge)
            self.nudge.clear()

    async def _back_off(self) -> None:
        delay = self.bench.delay(self._failures)
        self._failures += 1
        await self._pause(delay)

    def _current(self) -> Install:
        """The slot's install: only its loop moves it, so it is there while the loop runs."""
        return self.bench.ledger.installs[self.key]

    async def _advance(self, install: Install) -> None:
        """Does the state's work and writes down that it is done."""
        match install.state:
            case State.SWITCHING:
                await self._switch(install)
            case State.PROBATION:
                await self._probation(install)
            case State.REVERTING:
                await self._revert()
            case _:
                learnt = await WORK[install.state](self.bench.means, install)
                await self.bench.edit(
                    lambda: Edit(installs=(passed(self._learnt(learnt), self.bench.now()),))
                )

    def _learnt(self, learnt: Install) -> Install:
        """The install with what was learnt; a directive may have renewed it meanwhile."""
        return replace(
            self._current(),
            candidate=learnt.candidate,
            approvals=learnt.approvals,
            fetched_bytes=learnt.fetched_bytes,
            model_bytes=learnt.model_bytes,
        )

    async def _switch(self, install: Install) -> None:
        bench, candidate = self.bench, install.candidate
        if candidate is None:
            raise StoreError(f"{install.model}/{install.version}: the record has no candidate")
        await pass_gate(bench.means, install, window_gate)  # it may have closed since WAITING
        manifest = await manifest_of(bench.means, install)

        def point() -> Edit:
            reason = bench.may_run(candidate)  # it may have been recalled a moment ago
            if reason is not None:
                raise reason
            return switched(self.seat.slot, self._learnt(install), candidate, bench.now())

        def activate() -> None:
            try:
                self.seat.activate(candidate)
            except ModelLoadFailed as error:
                # Another slot of the model went back or ended, and took the candidate along: no
                # fault of the version. The slot points at it by now, so it is loaded again.
                log.info("install.candidate-lost detail=%s", error.detail)

        async with bench.model_turn(install.model):
            await bench.deployments.prepare(candidate, manifest)
            await bench.edit(point, then=activate)

    async def _probation(self, install: Install) -> None:
        bench = self.bench
        active = self.seat.standing.active
        if active is None or active != install.candidate:
            raise self.seat.error or NotReady(f"{install.model}/{install.version} is not loaded")
        budgets = (await manifest_of(bench.means, install)).budgets
        while True:
            elapsed = bench.clock.monotonic() - bench.since[self.key]
            traffic = bench.deployments.traffic(*self.key)
            probation = judge(bench.policy, budgets, traffic, elapsed)
            if probation.verdict is Verdict.FAILED:
                raise ProbationFailed(probation.reason)
            if probation.verdict is Verdict.PASSED:
                break
            await bench.clock.sleep(bench.policy.check_seconds)

        def commit() -> Edit:
            return proven(self.seat.slot, self._learnt(install), bench.now())

        await bench.edit(commit, then=self.seat.prove)
        await bench.collect()

    async def _revert(self) -> None:
        """The slot points at what its seat was restored to."""

        def go_back() -> Edit:
            return put_back(self.seat.slot, self._current(), self.bench.now())

        await self.bench.edit(go_back, then=self.seat.drop_candidate)
        await self.bench.collect()

    async def _reject(self, outcome: Outcome) -> None:
        """Writes down that the work can't be done, or not now; nothing if that is what stands there."""
        until = outcome.until
        if outcome.event is Event.DEFER and not until:
            until = self.bench.now() + self.bench.delay(self._failures)
            self._failures += 1

        def reject() -> Edit:
            return rejected(self._current(), outcome, until, self.bench.now())

        if reject() != Edit(installs=(self._current(),)):
            await self.bench.edit(reject)
