"""Time passed: counts what was observed, keeps open windows on disk, judges those that close.

The record of a closed window goes into the spool in the very transaction that forgets the open one:
whatever the moment of a power cut, a window is told exactly once, and no more than
``checkpoint_seconds`` of counts are lost.
"""

import asyncio
import logging
import math
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Final

from agent.clock import Clock
from agent.errors import AgentError
from agent.inference.traffic import TrafficCounts
from agent.monitor.alert import AlertState, after, read_state
from agent.monitor.counts import ProfileMismatch, empty
from agent.monitor.finding import Judgement, Verdict
from agent.monitor.reference import Reference
from agent.monitor.verdict import judge
from agent.monitor.window import OpenWindow, Watch, Watched, closes, overridden
from agent.monitor.wire import alert_record, read_window, window_message, window_record
from agent.store.device_store import DeviceStore
from protos.documents import Watching
from protos.errors import DocumentError

log = logging.getLogger(__name__)

INTERVAL: Final = 1.0
CHECKPOINT_SECONDS: Final = 10.0
"""Each write wears the flash: an open window has some 10 kB, and a busy one changes all the time."""
ORPHAN_SECONDS: Final = 30.0
"""So long after a start, a window whose version has not come back is closed."""
_STATE: Final = "#alerts"
"""Ends the key of what was told of a version; its open window's key is its manifest's digest."""


class MonitorLoop:
    """Watches every version that ``watch`` names.

    Args:
        rows, seconds: replace the bundle's n_min and t_min_seconds if they are not 0.
        wishes: likewise, by the digest of a version's manifest, where these are 0.
        checkpoint_seconds: least time between two writes of the open windows.
    """

    def __init__(
        self,
        store: DeviceStore,
        watch: Watch,
        clock: Clock,
        *,
        rows: int = 0,
        seconds: float = 0.0,
        wishes: Callable[[], Mapping[str, Watching]] = dict,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        self._store = store
        self._watch = watch
        self._clock = clock
        self._rows = rows
        self._seconds = seconds
        self._wishes = wishes
        self._wished: Mapping[str, Watching] = {}
        self._checkpoint_seconds = checkpoint_seconds
        self._started = clock.monotonic()
        self._saved = -math.inf  # monotonic seconds
        self._present: list[Watched] = []
        self._references: dict[str, Reference] = {}  # of what is present, or was until just now
        self._unsaved: set[str] = set()
        self._uncounted: set[str] = set()
        self._turn = threading.Lock()
        self._windows: dict[str, OpenWindow] = {}
        self._alerts: dict[str, AlertState] = {}
        for key, value in store.windows.checkpoints().items():
            self._resume(key, value)

    async def run(self) -> None:
        """Runs until cancelled; ``keep`` afterwards, when the last request is answered."""
        while True:
            await self._clock.sleep(INTERVAL)
            # On a thread: it counts, judges and waits for the disk, and requests must not.
            await asyncio.to_thread(self._try, self.tick)

    def tick(self, *, last: bool = False) -> None:
        """One turn: count, close what is to be closed, save the rest if it is time or the last turn.

        From any thread.

        Raises:
            AgentError: the store failed. What was counted is kept, and written by a later turn.
        """
        with self._turn:
            self._tick(_milliseconds(self._clock.now()))
            now = self._clock.monotonic()
            if self._unsaved and (last or now - self._saved >= self._checkpoint_seconds):
                self._save()
                self._saved = now

    def _tick(self, now_ms: int) -> None:
        present = list(self._watch.watched())
        self._wished = self._wishes()
        # What has just gone may still have requests under way: it is counted one turn longer.
        leaving = [one for one in self._present if all(one is not other for other in present)]
        for watched in [*leaving, *present]:
            self._references[watched.manifest_sha256] = watched.reference
            self._try_to_count(watched, now_ms)
        staying = {watched.manifest_sha256 for watched in [*leaving, *present]}
        for key in [key for key in self._references if key not in staying]:
            if key in self._windows:
                self._close(self._windows[key], now_ms)
            self._store.windows.discard(key + _STATE)
            self._alerts.pop(key, None)
            self._uncounted.discard(key)
            del self._references[key]
        for key, reference in self._references.items():
            wish = self._wish(key)
            policy = overridden(reference.policy, wish.rows, wish.seconds)
            window = self._windows.get(key)
            if window is not None and closes(window, policy, now_ms):
                self._close(window, now_ms)
        self._present = present
        if self._clock.monotonic() - self._started >= ORPHAN_SECONDS:
            self._forget_orphans(now_ms)

    def keep(self) -> None:
        """One last turn, after which all that was counted is on the disk; what goes wrong is logged."""
        self._try(partial(self.tick, last=True))

    @staticmethod
    def _try(turn: Callable[[], None]) -> None:
        """What goes wrong is logged, and done by a later turn."""
        try:
            turn()
        except AgentError as error:
            log.warning("monitor.delayed code=%s detail=%s", error.code, error.detail)
        except Exception:
            log.exception("monitor.failed")

    def _resume(self, key: str, value: bytes) -> None:
        try:
            if key.endswith(_STATE):
                self._alerts[key.removesuffix(_STATE)] = read_state(value)
            else:
                self._windows[key] = read_window(value)
        except DocumentError as error:
            log.warning("monitor.checkpoint-unreadable key=%s detail=%s", key, error.detail)
            self._store.windows.discard(key)

    def _try_to_count(self, watched: Watched, now_ms: int) -> None:
        """A version that can't be counted is told of once, and keeps no other from being."""
        try:
            self._count(watched, now_ms)
        except AgentError:
            raise
        except Exception:
            if watched.manifest_sha256 not in self._uncounted:
                self._uncounted.add(watched.manifest_sha256)
                log.exception(
                    "monitor.uncounted model=%s version=%d", watched.model, watched.version
                )

    def _count(self, watched: Watched, now_ms: int) -> None:
        key = watched.manifest_sha256
        window = self._windows.get(key)
        if window is not None and window.counts.profile != watched.observer.profile:
            self._close(window, now_ms)
            window = None
        if window is None or window.is_empty:
            window = self._new(watched, now_ms)
        seen = window.seeing(watched.observer.drain(), watched.drain_traffic())
        self._windows[key] = seen
        if seen is not window:
            self._unsaved.add(key)

    def _save(self) -> None:
        with self._store.transaction():
            for key in self._unsaved:
                message = window_message(self._windows[key])
                self._store.windows.checkpoint(key, message.SerializeToString())
        self._unsaved.clear()

    def _new(self, watched: Watched, now_ms: int) -> OpenWindow:
        return OpenWindow(
            window_id=uuid.uuid4().hex,
            model=watched.model,
            version=watched.version,
            manifest_sha256=watched.manifest_sha256,
            started_ms=now_ms,
            counts=empty(watched.observer.profile, len(watched.reference.series)),
            traffic=TrafficCounts(),
        )

    def _forget_orphans(self, now_ms: int) -> None:
        for key in self._windows.keys() - self._references.keys():
            self._close(self._windows[key], now_ms)
        for key in self._alerts.keys() - self._references.keys():
            self._store.windows.discard(key + _STATE)
            del self._alerts[key]

    def _close(self, window: OpenWindow, now_ms: int) -> None:
        key = window.manifest_sha256
        if window.is_empty:
            self._windows.pop(key, None)
            self._unsaved.discard(key)
            return
        ended_ms = max(now_ms, window.started_ms)
        judgement = self._judged(window)
        state, told = after(self._alerts.get(key, AlertState()), judgement)
        with self._store.transaction():
            self._store.spool.put("window", window_record(window, ended_ms, judgement), ended_ms)
            if told is not None:
                event = alert_record(window, ended_ms, told, judgement)
                self._store.spool.put("event", event, ended_ms)
            self._store.windows.discard(key)
            self._store.windows.checkpoint(key + _STATE, state.encode())
        self._windows.pop(key, None)
        self._unsaved.discard(key)
        self._alerts[key] = state
        log.info(
            "monitor.window-closed model=%s version=%d rows=%d verdict=%s",
            window.model, window.version, window.counts.rows, judgement.verdict.value,
        )  # fmt: skip

    def _wish(self, manifest_sha256: str) -> Watching:
        """What replaces the bundle's numbers: the device's owner goes before the directive."""
        wished = self._wished.get(manifest_sha256, Watching())
        return Watching(rows=self._rows or wished.rows, seconds=self._seconds or wished.seconds)

    def _judged(self, window: OpenWindow) -> Judgement:
        reference = self._references.get(window.manifest_sha256)
        if reference is None:  # the version has not come back since a restart
            return Judgement(Verdict.INSUFFICIENT_DATA)
        try:
            return judge(reference, window.counts, n_min=self._wish(window.manifest_sha256).rows)
        except ProfileMismatch:
            return Judgement(Verdict.INSUFFICIENT_DATA)


def _milliseconds(now: datetime) -> int:
    return int(now.timestamp() * 1000)
