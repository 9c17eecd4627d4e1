"""Has a coordinator at work for every run that goes on, and none for any other.

Level-triggered, and of several controllers on one store one does it. A coordinator that dies is started
again: it goes on from its newest checkpoint. What came of a finished run is handed on, once, beside the
loop: that takes seconds, or minutes.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from agent.clock import Clock
from agent.waiting import sleep_unless
from controller.candidate.errors import Interrupted
from controller.errors import Conflict, ControllerError
from controller.federated import actions
from controller.federated.errors import FlowerMissing
from controller.federated.run import Run, RunState
from controller.federated.supervision.actions import (
    Finished,
    Made,
    hand_on,
    unregistered,
    write_down,
)
from controller.federated.supervision.attempts import Attempts, died
from controller.runtimes.coordinators import Coordinator, Coordinators
from controller.store.store import Store

LEASE: Final = "federated"
LEASE_SECONDS: Final = 30.0
INTERVAL_SECONDS: Final = 5.0
STOP_SECONDS: Final = 10.0
"""A coordinator that was asked to end is given so long to end by itself."""
MOST_TRIES: Final = 3
"""What makes a version may go down so often for one run: then the version is too much for this machine."""

log = logging.getLogger(__name__)


class RunLoop:
    """Starts, wakes and ends coordinators.

    Args:
        store: where runs stand.
        coordinators: starts them.
        clock: the time.
        tell: devices have to be told of their tasks.
        finished: makes a version of what came of a run; on a thread.
        give_up: ends what ``finished`` has begun, which then raises.
        holder: names this controller among those that share the store.
        interval: seconds between two looks that nobody asked for.
    """

    def __init__(
        self,
        store: Store,
        coordinators: Coordinators,
        clock: Clock,
        tell: Callable[[], None],
        finished: Finished,
        holder: str = "controller",
        interval: float = INTERVAL_SECONDS,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._coordinators = coordinators
        self._clock = clock
        self._tell = tell
        self._holder = holder
        self._interval = interval
        self._working: dict[str, _Work] = {}
        self._attempts: dict[str, Attempts] = {}
        self._woken = asyncio.Event()
        self._running: asyncio.AbstractEventLoop | None = None
        self._handing = _Handing(store, clock, finished, give_up, self._woken)

    def wake(self) -> None:
        """Somebody has begun a run, or asked that it ends. From any thread."""
        self._soon(self._woken.set)

    def replied(self, run: str) -> None:
        """A reply has come. From any thread."""
        self._soon(lambda: self._wake_coordinator(run))

    async def run(self) -> None:
        """Until cancelled; then every coordinator is ended."""
        self._running = asyncio.get_running_loop()
        try:
            while True:
                self._woken.clear()
                pause = self._interval
                try:
                    pause = min(pause, await self.turn())
                except Exception:
                    log.exception("federated.turn_failed")
                await sleep_unless(self._clock, pause, self._woken)
        finally:
            await self.end()

    async def turn(self) -> float:
        """One look; returns in how many seconds the next is due.

        Raises:
            StoreError: the store can't be read or written; the next turn tries again.
        """
        runs, finished = await asyncio.to_thread(self._look)
        wanted = {run.id: run for run in runs}
        for name, work in list(self._working.items()):
            if name not in wanted:
                work.coordinator.kill()
        for name in set(self._attempts) - set(wanted) - set(self._working):
            del self._attempts[name]  # who resumes it begins anew
        for run in runs:
            await self._attend(run)
        self._handing.begin(finished)
        now = self._clock.monotonic()
        waiting = [one.due for run, one in self._attempts.items() if run not in self._working]
        return min((max(due - now, 0.05) for due in waiting), default=self._interval)

    async def end(self) -> None:
        """Ends every coordinator; the runs go on when a controller is there again."""
        await self._handing.end()
        work, self._working = list(self._working.values()), {}
        for one in work:
            one.coordinator.kill()
            one.watch.cancel()
        for one in work:
            await one.coordinator.ended()
        if work:
            await asyncio.to_thread(self._release)

    def _look(self) -> tuple[list[Run], list[Run]]:
        """Runs that are at work, and those whose outcome waits; none while another controller acts."""
        with self._store.read() as tx:
            idle = not tx.runs.at_work() and not unregistered(tx)
        if idle and not self._working:
            return [], []
        with self._store.begin() as tx:
            if not tx.leases.acquire(LEASE, self._holder, self._now(), LEASE_SECONDS):
                return [], []
            return list(tx.runs.at_work()), list(unregistered(tx))

    def _release(self) -> None:
        with self._store.begin() as tx:
            tx.leases.release(LEASE, self._holder)

    async def _attend(self, run: Run) -> None:
        work = self._working.get(run.id)
        if run.state is RunState.STOPPING:
            if work is None:
                await asyncio.to_thread(self._close, run.id)
            else:
                work.stop(self._clock)
            return
        attempts = self._attempts.get(run.id, Attempts())
        if work is not None or self._clock.monotonic() < attempts.due:
            return
        if attempts.given_up:
            why = f"its coordinator has died {attempts.futile} times in a row: see {run.id}.log"
            self._attempts.pop(run.id, None)
            await asyncio.to_thread(self._close, run.id, why)
            return
        try:
            coordinator = await self._coordinators.start(run.id, self._tell)
        except FlowerMissing as error:
            await asyncio.to_thread(self._close, run.id, f"{error.detail}. {error.remedy}")
            return
        watch = asyncio.create_task(self._watch(run.id, coordinator))
        self._working[run.id] = _Work(coordinator, watch)
        log.info("federated.coordinator_started run=%s", run.id)

    async def _watch(self, run: str, coordinator: Coordinator) -> None:
        """Notes that it has ended: the next turn decides what follows."""
        status = await coordinator.ended()
        last = await asyncio.to_thread(self._last_step, run)
        before = self._attempts.get(run, Attempts())
        self._attempts[run] = died(before, last, self._clock.monotonic())
        self._working.pop(run, None)
        log.info("federated.coordinator_ended run=%s status=%d", run, status)
        self._tell()
        self._woken.set()

    def _close(self, run: str, error: str = "") -> None:
        try:
            with self._store.begin() as tx:
                actions.ended(tx, run, self._now(), error)
        except Conflict:
            log.debug("federated.ended_already run=%s", run)
        self._tell()

    def _last_step(self, run: str) -> int:
        try:
            with self._store.read() as tx:
                return max((one.step for one in tx.runs.newest_phases(run, 1)), default=0)
        except ControllerError as error:
            log.warning("federated.unread run=%s: %s", run, error.detail)
            return 0

    def _wake_coordinator(self, run: str) -> None:
        work = self._working.get(run)
        if work is not None:
            work.coordinator.wake()

    def _soon(self, act: Callable[[], None]) -> None:
        running = self._running
        if running is None:
            act()
        elif not running.is_closed():
            running.call_soon_threadsafe(act)

    def _now(self) -> float:
        return self._clock.now().timestamp()


class _Handing:
    """Hands on what came of finished runs, one after the other."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        finished: Finished,
        give_up: Callable[[], None],
        done: asyncio.Event,
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._store = store
        self._clock = clock
        self._finished = finished
        self._give_up = give_up
        self._done = done
        self._tries: dict[str, int] = {}
        self._gone_down: dict[str, int] = {}
        self._ending = False

    def begin(self, waiting: Sequence[Run]) -> None:
        """Begins with the first, if nothing is under way; those tried in vain come last."""
        self._tries = {one.id: self._tries.get(one.id, 0) for one in waiting}
        self._gone_down = {one.id: self._gone_down.get(one.id, 0) for one in waiting}
        if waiting and not self._ending and (self.task is None or self.task.done()):
            first = min(waiting, key=lambda one: self._tries[one.id])
            self._tries[first.id] += 1
            self.task = asyncio.create_task(self._hand_on(first))

    async def end(self) -> None:
        """Gives up what is under way: it is begun anew when a controller is there again."""
        self._ending = True
        if self.task is not None:
            self._give_up()
            await asyncio.wait([self.task])

    async def _hand_on(self, run: Run) -> None:
        try:
            await asyncio.to_thread(self._try, run)
            self._done.set()
        except ControllerError as error:  # the next turn tries again
            log.warning("federated.not_handed_on run=%s: %s", run.id, error.detail)
        except Exception:
            log.exception("federated.not_handed_on run=%s", run.id)

    def _try(self, run: Run) -> None:
        now = self._clock.now().timestamp()
        try:
            hand_on(self._store, run, self._finished, now)
        except Interrupted as error:
            if self._ending:
                return
            self._gone_down[run.id] = times = self._gone_down.get(run.id, 0) + 1
            if times < MOST_TRIES:
                raise
            why = f"{error.detail}, {times} times"
            write_down(self._store, run, Made(None, why), now)
        except ControllerError:  # weather: it may last for one run, so the others go first
            raise
        except Exception as error:  # once: it would be the same again
            log.exception("federated.not_registered run=%s", run.id)
            why = f"{type(error).__name__} while its version was made: see the controller's log"
            write_down(self._store, run, Made(None, why), now)


class _Work:
    """A coordinator that was started."""

    def __init__(self, coordinator: Coordinator, watch: asyncio.Task[None]) -> None:
        self.coordinator = coordinator
        self.watch = watch
        self._stop_by: float | None = None

    def stop(self, clock: Clock) -> None:
        """Asks it to end; in the end, ends it."""
        now = clock.monotonic()
        if self._stop_by is None:
            self._stop_by = now + STOP_SECONDS
            self.coordinator.wake()
        elif now >= self._stop_by:
            self.coordinator.kill()
