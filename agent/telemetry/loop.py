"""What is told goes into the spool in order, what waits there is sent, and readings are added."""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import psutil

from agent.clock import Clock
from agent.errors import AgentError, Refused, TransportError
from agent.store.device_store import DeviceStore
from agent.telemetry.actions import Reporter
from agent.telemetry.batch import BYTES, RECORDS, Batch, acknowledged, batch
from agent.telemetry.record import Severity, event_record, resources_record
from agent.telemetry.resources import Reading, resources
from agent.transport.backoff import Backoff
from agent.waiting import finished, sleep_unless
from protos.v1 import telemetry_pb2

log = logging.getLogger(__name__)

Upload = Callable[[telemetry_pb2.UploadRequest], Awaitable[telemetry_pb2.UploadReply]]

INTERVAL: Final = 60.0
JITTER: Final = 0.2
"""A fleet that was switched on together does not send together for ever."""
RETRY: Final = Backoff(base=1.0, cap=60.0)
_OF_THE_REQUEST: Final = frozenset({"invalid-input", "too-large"})
"""Refusals that the same records would meet for ever."""


class UploadLoop:
    """Sends the spool, oldest first, and forgets what the controller has stored.

    One request is under way at a time, so that a record is never behind one that was stored. Use it
    on one event loop's thread.

    Args:
        upload: ``agent.transport.controller_client.upload`` over the live link.
        interval: seconds between two looks at the spool when nobody wakes it, give or take a fifth.
        backoff: waits after failures; both are drawn with ``rng``.
    """

    def __init__(
        self,
        store: DeviceStore,
        upload: Upload,
        clock: Clock,
        rng: random.Random,
        *,
        interval: float = INTERVAL,
        backoff: Backoff = RETRY,
    ) -> None:
        self._store = store
        self._upload = upload
        self._clock = clock
        self._rng = rng
        self._interval = interval
        self._backoff = backoff
        self._records = RECORDS
        self._awake = asyncio.Event()
        self._up = asyncio.Event()

    def wake(self) -> None:
        """Something waits that the controller should learn now. Does not cut a back-off short."""
        self._awake.set()

    def link_up(self) -> None:
        """A new link is there: whatever failed before may be tried again at once."""
        self._up.set()

    async def run(self) -> NoReturn:
        """Never returns; whatever fails is tried again."""
        attempt = 0
        while True:
            self._awake.clear()
            self._up.clear()
            try:
                await self.drain()
            except Refused as error:
                log.warning("telemetry.refused code=%s: %s", error.code, error.detail)
            except TransportError as error:
                level = logging.DEBUG if attempt else logging.INFO  # it may last for days
                log.log(level, "telemetry.waits attempt=%d: %s", attempt, error.detail)
            except AgentError as error:
                log.warning("telemetry.failed code=%s: %s", error.code, error.detail)
            except Exception:
                log.exception("telemetry.broke")
            else:
                attempt = 0
                spread = self._rng.uniform(1 - JITTER, 1 + JITTER)
                await sleep_unless(self._clock, self._interval * spread, self._awake, self._up)
                continue
            await sleep_unless(self._clock, self._backoff.delay(attempt, self._rng), self._up)
            attempt += 1

    async def drain(self) -> None:
        """Sends until the spool is empty.

        Raises:
            TransportError: no answer, or one that acknowledges nothing; nothing is forgotten.
            Refused: the controller said no.
            StoreError, DiskFull: the spool can't be read or written.
        """
        while (sent := await asyncio.to_thread(self._next)).through:
            through = await self._send(sent) if sent.sequences else sent.through
            if not through:
                raise TransportError("the controller acknowledged nothing of what was sent")
            await asyncio.to_thread(self._settle, sent, through)

    def _next(self) -> Batch:
        spool = self._store.spool
        return batch(spool.spool_id, spool.batch(self._records, BYTES), spool.dropped())

    async def _send(self, sent: Batch) -> int:
        try:
            reply = await self._upload(sent.request)
        except Refused as error:
            if error.code not in _OF_THE_REQUEST:
                raise
            if len(sent.sequences) == 1:
                await asyncio.to_thread(self._give_up, sent, error)
            # Half of it, until the one that is to blame stands alone.
            self._records = max(1, len(sent.sequences) // 2)
            raise
        self._records = min(RECORDS, 2 * self._records)
        return acknowledged(sent, reply)

    def _settle(self, sent: Batch, through: int) -> None:
        with self._store.transaction():
            self._forget(sent, through)

    def _give_up(self, sent: Batch, error: Refused) -> None:
        kind = sent.request.records[0].WhichOneof("kind") or "unknown"
        with self._store.transaction():
            self._forget(sent, sent.sequences[0])
            self._tell_lost(kind, error.code, error.detail)

    def _forget(self, sent: Batch, through: int) -> None:
        self._store.spool.forget(through)
        for one in sent.unsendable:
            if one.record.sequence <= through:
                self._tell_lost(one.record.kind, "unsendable", one.reason)

    def _tell_lost(self, kind: str, code: str, detail: str) -> None:
        log.error("telemetry.lost kind=%s code=%s: %s", kind, code, detail)
        now_ms = int(1000 * self._clock.now().timestamp())
        told = event_record(
            "telemetry.lost", "error", now_ms, code=code, detail=detail, fields={"kind": kind}
        )
        self._store.spool.put("event", told, now_ms)


class ReportLoop:
    """Spools what is told, in that order, on a thread.

    Whoever tells never waits for the disk: a switch is told of on the thread that answers requests,
    right after it. Use it on one event loop's thread.

    Args:
        wake: called when something new is in the spool.
    """

    def __init__(self, reporter: Reporter, wake: Callable[[], None]) -> None:
        self._reporter = reporter
        self._wake = wake
        self._told: deque[tuple[str, Callable[[], object]]] = deque()
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()

    def report(self) -> None:
        """Has the device say how things are by then."""
        self._add("report", self._reporter.report)

    def event(
        self,
        name: str,
        code: str = "",
        detail: str = "",
        *,
        model: str = "",
        version: int = 0,
        fields: Mapping[str, str] | None = None,
        severity: Severity | None = None,
    ) -> None:
        """Has the device say what happened; with a ``code`` it is an error, unless said otherwise."""
        work = partial(
            self._reporter.event,
            name,
            severity or ("error" if code else "info"),
            model=model,
            version=version,
            code=code,
            detail=detail,
            fields=fields,
        )
        self._add(name, work)

    async def run(self) -> NoReturn:
        """Never returns; ends when it is cancelled. Then ``flush`` what is left."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self.flush()

    async def flush(self) -> None:
        """Returns when all that was told is durable, or can't be."""
        async with self._turn:
            while self._told:
                await finished(self._spool(*self._told.popleft()))
                self._wake()

    def _add(self, name: str, work: Callable[[], object]) -> None:
        self._told.append((name, work))
        self._news.set()

    async def _spool(self, name: str, work: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(work)
        except AgentError as error:
            log.warning("telemetry.untold name=%s code=%s: %s", name, error.code, error.detail)
        except Exception:
            log.exception("telemetry.untold name=%s", name)


class ResourcesLoop:
    """Puts what the agent uses into the spool, every interval; the first after one interval.

    Args:
        folder: whose disk the agent's files are on.
    """

    def __init__(
        self, store: DeviceStore, folder: Path, clock: Clock, *, interval: float = INTERVAL
    ) -> None:
        self._store = store
        self._folder = folder
        self._clock = clock
        self._interval = interval
        self._process = psutil.Process()
        self._first = self._before = self._read()

    async def run(self) -> NoReturn:
        """Never returns; a reading that fails is logged and left out."""
        while True:
            await self._clock.sleep(self._interval)
            try:
                await asyncio.to_thread(self.take)
            except Exception:
                log.exception("telemetry.reading-failed")

    def take(self) -> telemetry_pb2.Resources:
        """Takes one reading, spools it and returns it."""
        now = self._read()
        taken = resources(self._first, self._before, now, len(self._store.spool))
        self._before = now
        now_ms = int(1000 * self._clock.now().timestamp())
        self._store.spool.put("resources", resources_record(taken, now_ms), now_ms)
        return taken

    def _read(self) -> Reading:
        own = self._process.cpu_times()
        seconds = own.user + own.system + own.children_user + own.children_system
        resident = self._process.memory_info().rss
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has just ended
                times, memory = child.cpu_times(), child.memory_info()
                seconds += times.user + times.system
                resident += memory.rss
        return Reading(
            monotonic=self._clock.monotonic(),
            cpu_seconds=seconds,
            resident_bytes=resident,
            disk_free_bytes=psutil.disk_usage(str(self._folder)).free,
        )
