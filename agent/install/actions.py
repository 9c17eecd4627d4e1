"""What the loops of all slots share: writing before acting, and seating what answers."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from agent.clock import Clock
from agent.errors import AgentError, HashMismatch, StoreError
from agent.inference.deployments import Standing, activated, committed, reverted
from agent.install.attempts import retry_delay
from agent.install.change import Change
from agent.install.edit import Edit
from agent.install.fallback import MayRun, goal
from agent.install.ledger import Ledger, deployed_manifests, tried_manifests
from agent.install.ports import Deployments
from agent.install.probation import ProbationPolicy
from agent.install.record import Deployed, Install, Slot, SlotKey
from agent.install.slot.actions import Means, check, manifest_in
from agent.install.soak import Answering, answering
from agent.waiting import finished

log = logging.getLogger(__name__)


def allow_all(_: Deployed) -> AgentError | None:
    """Nothing is known to be recalled."""
    return None


@dataclass(eq=False)
class Bench:
    """What the loops of all slots share.

    Attributes:
        seats: what ``deployments`` was told to do, by slot; replaced, never changed: reports read it
            on a thread of their own.
        since: by slot, when its active version began to answer; monotonic seconds.
        counts: by slot, the proven version that answers, and since when.
        model_turns: a model's candidate is loaded and activated by one slot at a time.
        pen: one writer at a time reads the ledger, decides and writes.
        resumed: what the restart means to every install is written: they may go on.
    """

    ledger: Ledger
    means: Means
    deployments: Deployments
    clock: Clock
    on_change: Callable[[Change], None]
    on_load: Callable[[], None]
    policy: ProbationPolicy
    retry_seconds: float
    retry_cap_seconds: float
    rng: random.Random
    may_run: MayRun = allow_all
    seats: Mapping[SlotKey, Standing[Deployed]] = field(default_factory=dict)
    since: dict[SlotKey, float] = field(default_factory=dict)
    counts: dict[SlotKey, Answering] = field(default_factory=dict)
    model_turns: dict[str, asyncio.Lock] = field(default_factory=dict)
    pen: asyncio.Lock = field(default_factory=asyncio.Lock)
    resumed: bool = False

    def now(self) -> float:
        """Unix seconds."""
        return self.clock.now().timestamp()

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return retry_delay(failures, self.retry_seconds, self.retry_cap_seconds, self.rng.random())

    async def edit(self, make: Callable[[], Edit], then: Callable[[], None] | None = None) -> None:
        """Makes an edit durable, then does what follows from it: both, or nothing of it.

        Raises:
            AgentError: what ``make`` raises; DiskFull, StoreError: it could not be written.
        """
        await finished(self._edit(make, then))

    async def _edit(self, make: Callable[[], Edit], then: Callable[[], None] | None) -> None:
        async with self.pen:
            edit = make()
            changes = await self.means.offload(partial(self.ledger.write, edit, self.now()))
            if then is not None:
                then()
        for change in changes:
            log.info(
                "%s model=%s slot=%s version=%d code=%s detail=%s",
                change.name, change.model, change.slot, change.version, change.code, change.detail,
            )  # fmt: skip
            self.on_change(change)

    async def collect(self) -> None:
        """Removes blobs that nothing hangs off any more. A manifest that can't be read stops it."""
        async with self.pen:
            try:
                freed = await self.means.offload(self._collect)
            except AgentError as error:
                log.warning("install.not-collected code=%s detail=%s", error.code, error.detail)
            else:
                log.debug("install.collected bytes=%d", freed)

    def _collect(self) -> int:
        blobs = self.means.blobs
        deployed = deployed_manifests(self.ledger.slots.values())
        kept = deployed | tried_manifests(self.ledger.installs.values())
        files: set[str] = set()
        for sha256 in kept:
            if sha256 in deployed or blobs.has(sha256):
                manifest = manifest_in(blobs.read(sha256))
                wanted = manifest.needed if sha256 in deployed else manifest.files
                files.update(file.sha256 for file in wanted.values())
        return blobs.keep_only(kept | files)

    def bind(self) -> None:
        """Has no slot answer with what may not run; what is warm steps in at once."""
        for key in tuple(self.seats):
            self._bind(key)

    def _bind(self, key: SlotKey) -> None:
        standing = self.seats[key]
        if standing.active is None or self.may_run(standing.active) is None:
            return
        behind = standing.previous
        if behind is not None and not standing.proven and self.may_run(behind) is None:
            self.deployments.revert(*key)
            self.seat(key, reverted(standing).standing)
        else:
            self.unseat(key)

    def model_turn(self, model: str) -> asyncio.Lock:
        """Held from preparing a candidate of the model until it is activated."""
        return self.model_turns.setdefault(model, asyncio.Lock())

    def seat(self, key: SlotKey, standing: Standing[Deployed]) -> None:
        """Notes that another version answers."""
        self.settle(key, standing)
        self.since[key] = self.clock.monotonic()

    def settle(self, key: SlotKey, standing: Standing[Deployed]) -> None:
        """Notes how things stand in the slot."""
        self.seats = {**self.seats, key: standing}
        proven = standing.active if standing.proven else None
        count = answering(self.counts.pop(key, None), proven, self.clock.monotonic())
        if count is not None:
            self.counts[key] = count

    def unseat(self, key: SlotKey) -> None:
        """Nothing answers in the slot."""
        self.deployments.remove(*key)
        self.seats = {other: seat for other, seat in self.seats.items() if other != key}
        self.since.pop(key, None)
        self.counts.pop(key, None)


@dataclass(eq=False)
class Seat:
    """What answers in one slot, and what shall.

    Attributes:
        error: why what shall answer could not be loaded; None if it was not tried, or was.
    """

    bench: Bench
    key: SlotKey
    error: AgentError | None = None
    _failed: Deployed | None = None  # what the error is about
    _failures: int = 0
    _again: float = 0.0  # monotonic

    @property
    def standing(self) -> Standing[Deployed]:
        """What the deployments were told."""
        return self.bench.seats.get(self.key, Standing())

    @property
    def install(self) -> Install | None:
        """The slot's install."""
        return self.bench.ledger.installs.get(self.key)

    @property
    def slot(self) -> Slot:
        """The slot; empty if it points at nothing."""
        return self.bench.ledger.slots.get(self.key) or Slot(*self.key)

    @property
    def wanted(self) -> Deployed | None:
        """What shall answer."""
        return goal(self.slot, self.install)

    @property
    def wait_seconds(self) -> float:
        """How long until what failed to load is tried again."""
        return self._again - self.bench.clock.monotonic()

    async def restore(self) -> None:
        """Has the slot answer with what it shall; remembers why not, and when to try again."""
        bench, wanted, standing = self.bench, self.wanted, self.standing
        if wanted == standing.active:
            return
        if wanted is None:
            bench.unseat(self.key)
        elif wanted == standing.previous and not standing.proven and not bench.may_run(wanted):
            bench.deployments.revert(*self.key)
            bench.seat(self.key, reverted(standing).standing)
        elif wanted != self._failed or self.wait_seconds <= 0:
            await self._try_to_load(wanted)

    async def _try_to_load(self, wanted: Deployed) -> None:
        bench = self.bench
        if wanted != self._failed:
            self._failures = 0
        try:
            await self._load(wanted)
        except AgentError as error:
            log.warning(
                "slot.not-loaded model=%s slot=%s version=%d code=%s detail=%s",
                *self.key, wanted.version, error.code, error.detail,
            )  # fmt: skip
            self.error, self._failed = error, wanted
            self._again = bench.clock.monotonic() + bench.delay(self._failures)
            self._failures += 1
            bench.unseat(self.key)  # whatever answers is what shall not
        else:
            self.error, self._failed = None, None
            bench.on_load()

    async def _load(self, wanted: Deployed) -> None:
        """Loads from the blob store; what the disk has lost is fetched again, where it is known."""
        self._require(wanted)  # a full disk may still point at what is recalled
        try:
            await self._prepare_and_activate(wanted)
        except (StoreError, HashMismatch):
            install = self.install
            if install is None or install.sha256 != wanted.manifest_sha256:
                raise
            await check(self.bench.means, install)
            await self._prepare_and_activate(wanted)

    async def _prepare_and_activate(self, wanted: Deployed) -> None:
        bench = self.bench
        data = await bench.means.offload(partial(bench.means.blobs.read, wanted.manifest_sha256))
        async with bench.model_turn(self.key[0]):
            await bench.deployments.prepare(wanted, manifest_in(data))
            self._require(wanted)  # it may have been recalled a moment ago
            self.activate(wanted)
        if wanted == self.slot.committed:
            self.prove()

    def _require(self, wanted: Deployed) -> None:
        reason = self.bench.may_run(wanted)
        if reason is not None:
            raise reason

    def activate(self, candidate: Deployed) -> None:
        """What was prepared answers."""
        self.bench.deployments.activate(*self.key)
        self.bench.seat(self.key, activated(self.standing, candidate).standing)

    def prove(self) -> None:
        """What answers is proven: what is behind it is freed."""
        self.bench.deployments.release_previous(*self.key)
        self.bench.settle(self.key, committed(self.standing).standing)

    def drop_candidate(self) -> None:
        """What was loaded and never answered is freed."""
        if self.standing.proven:
            self.bench.deployments.revert(*self.key)
