"""Follows directives: starts, supersedes and retires installs, each slot in a loop of its own."""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from agent.clock import Clock
from agent.errors import AgentError, MalformedDocument
from agent.install.actions import Bench
from agent.install.attempts import rest, resume
from agent.install.change import Change
from agent.install.edit import Edit, renewed
from agent.install.fallback import MayRun, enforce
from agent.install.gates import Circumstances, plain
from agent.install.ledger import Ledger
from agent.install.machine import FINAL
from agent.install.ports import Deployments, Fetcher, SelfTest, Trust
from agent.install.probation import DEFAULT_POLICY, ProbationPolicy
from agent.install.reconcile import Device, Renew, Retire, Start, Step, Wait, reconcile
from agent.install.record import Install, SlotKey
from agent.install.slot.actions import Means, Offload
from agent.install.slot.loop import SlotLoop
from agent.install.soak import soaks
from agent.store.blob_store import BlobStore
from agent.store.device_store import DeviceStore, Quarantine
from agent.waiting import sleep_unless
from protos.documents import Directive
from protos.envelope import peek
from protos.errors import DocumentError
from protos.v1.common_pb2 import DeviceFacts

log = logging.getLogger(__name__)


@dataclass(eq=False)
class InstallLoop:
    """Brings the device to what its directive says. The only writer of slots and installs.

    It loads what the slots point at when it starts, too: nobody else needs to. Wake it when a
    directive was accepted or the link came up.

    Attributes:
        on_change: called on the event loop after a change is durable. A change may be durable
            without a call if power goes in between: so report once at the start, whatever happened.
        on_load: called on the event loop when what a slot points at answers again, as after a start:
            nothing is written then, and yet there is something new to report.
        opsets: the highest opset by runtime, where it is known. Called off the event loop.
        circumstances: what the device is in at that time, which it says in its own time zone. Called
            off the event loop.
        offload: runs what waits for the disk.
    """

    store: DeviceStore
    blobs: BlobStore
    trust: Trust
    fetcher: Fetcher
    self_test: SelfTest
    deployments: Deployments
    facts: Callable[[], DeviceFacts]
    clock: Clock
    on_change: Callable[[Change], None]
    on_load: Callable[[], None] = lambda: None
    policy: ProbationPolicy = DEFAULT_POLICY
    retry_seconds: float = 5.0
    retry_cap_seconds: float = 300.0
    rng: random.Random = field(default_factory=random.Random)
    opsets: Callable[[], Mapping[str, int]] = dict
    circumstances: Callable[[datetime], Circumstances] = plain
    offload: Offload = asyncio.to_thread
    _bench: Bench = field(init=False)
    _loops: dict[SlotKey, tuple[SlotLoop, "asyncio.Task[None]"]] = field(
        init=False, default_factory=dict
    )
    _wake: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    _directive: Directive | None = field(init=False, default=None)
    _loaded: bool = field(init=False, default=False)
    _looking: bool = field(init=False, default=True)
    _collected: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Puts the bench up that the loops of all slots share."""
        self._bench = Bench(
            ledger=Ledger(self.store),
            means=Means(
                blobs=self.blobs,
                trust=self.trust,
                fetcher=self.fetcher,
                self_test=self.self_test,
                facts=self.facts,
                opsets=self.opsets,
                quarantined=self.store.installs.quarantined,
                offload=self.offload,
                circumstances=lambda: self.circumstances(self.clock.now()),
            ),
            deployments=self.deployments,
            clock=self.clock,
            on_change=self.on_change,
            on_load=self.on_load,
            policy=self.policy,
            retry_seconds=self.retry_seconds,
            retry_cap_seconds=self.retry_cap_seconds,
            rng=self.rng,
        )

    async def run(self) -> None:
        """Follows directives until it is cancelled."""
        failures = 0
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                self._looking, again_at = True, math.inf
                try:
                    await self._follow()
                    again_at = await note_soaks(self._bench, self._directive)
                    failures = 0
                except AgentError as error:
                    log.warning("install.not-followed code=%s detail=%s", error.code, error.detail)
                    failures += 1
                except Exception:
                    log.exception("install.not-followed")
                    failures += 1
                self._tend(group)
                self._looking = False
                if failures:
                    await sleep_unless(self.clock, self._bench.delay(failures - 1), self._wake)
                elif not self._collected:
                    await self._collect_leftovers()
                elif again_at < math.inf:
                    pause = max(0.0, again_at - self.clock.monotonic())
                    await sleep_unless(self.clock, pause, self._wake)
                else:
                    await self._wake.wait()

    def wake(self) -> None:
        """Looks at the directive, and tries again what was put off. From the event loop only."""
        self._wake.set()
        for slot_loop, _ in self._loops.values():
            slot_loop.nudge.set()

    async def enforce(self, may_run: MayRun) -> None:
        """Ends what may not run: the fallback answers, if that may; otherwise nothing does.

        From now on nothing is switched to that ``may_run`` objects to. May be called before ``run``.

        Raises:
            DiskFull, StoreError: it could not be made durable; what is recalled answers no more
                all the same.
        """
        bench = self._bench
        bench.may_run = may_run  # first of all: from here on nothing is loaded that may not run
        async with self._turn:
            try:
                await self._recover()
            except AgentError:
                bench.bind()  # no install goes on yet, so nobody else moves a seat
                raise
            due = recalling(bench, may_run)
            touched = {slot.key for slot in due.slots} | {one.key for one in due.installs}
            for key in touched:
                await self._stop(key)
            bench.bind()
            if touched:
                await bench.edit(partial(recalling, bench, may_run))
        self._wake.set()

    async def rest(self) -> None:
        """Notes that the agent ends because it was asked to. Call after ``run`` has ended.

        Raises:
            DiskFull, StoreError: it could not be written; the restart will count as a crash.
        """
        installs = self._bench.ledger.installs.values()
        due = tuple(after for one in installs if (after := rest(one)) != one)
        if due:
            await self._bench.edit(lambda: Edit(installs=due))

    async def lift(self, manifest_sha256: str) -> None:
        """Lets a version be tried again that failed here; nothing happens if it is not kept out.

        Raises:
            DiskFull, StoreError: it could not be made durable.
        """
        for one in await self.offload(partial(lifted, self.store, manifest_sha256)):
            log.info("quarantine.lifted model=%s version=%d", one.model, one.version)
            self.on_change(Change("quarantine.lifted", one.model, "", one.version))
        self._wake.set()

    def loaded(self) -> Mapping[SlotKey, str]:
        """By slot, the digest of the model file that answers there. From any thread."""
        return {
            key: seat.active.model_sha256
            for key, seat in self._bench.seats.items()
            if seat.active is not None
        }

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way, and every slot answers that shall."""
        busy = self._looking or self._loops or self._wake.is_set()
        return self._collected and not busy

    async def _recover(self) -> None:
        """Reads what is durable, once, and notes what the restart means to every install.

        Until that is written no install goes on, but what the slots point at is loaded.
        """
        bench = self._bench
        if not self._loaded:
            await self.offload(bench.ledger.load)
            self._loaded = True
        if not bench.resumed:
            now = bench.now()
            resumed = [(one, resume(one, now)) for one in bench.ledger.installs.values()]
            moved = tuple(after for before, after in resumed if after != before)
            if moved:
                await bench.edit(lambda: Edit(installs=moved))
            bench.resumed = True

    async def _follow(self) -> None:
        """Carries out what the directive asks for, slots that it touches stopped."""
        async with self._turn:
            await self._recover()
            while True:
                steps = await self.offload(self._plan)
                stopping = [key_of(one) for one in steps if isinstance(one, Start | Retire)]
                running = [key for key in stopping if key in self._loops]
                if not running:
                    break
                for key in running:
                    await self._stop(key)
            for step in steps:
                await self._carry_out(step)

    async def _collect_leftovers(self) -> None:
        """Removes what a run before was about to remove when it ended."""
        try:
            await self._bench.collect()
        except Exception:
            log.exception("install.leftovers-kept")
        self._collected = True

    def _plan(self) -> Sequence[Step]:
        ledger, installs = self._bench.ledger, self.store.installs
        device = Device(
            tuple(ledger.slots.values()), tuple(ledger.installs.values()), installs.quarantined
        )
        self._directive = directive_in(installs.directive())
        return reconcile(self._directive, device, self._bench.now())

    async def _carry_out(self, step: Step) -> None:
        bench, key = self._bench, key_of(step)
        log.info(
            "install.%s model=%s slot=%s reason=%s", type(step).__name__.lower(), *key, step.reason
        )
        match step:
            case Start(install=install, slot=slot):
                slots = (slot,) if slot is not None else ()
                await bench.edit(lambda: Edit(installs=(install,), slots=slots))
                if install.state in FINAL:  # no loop will end it and clear up what it supersedes
                    await bench.collect()
            case Renew(install=install):
                waited_for = bench.ledger.installs[key].conditions
                await bench.edit(partial(renewing, bench, install))
                if key in self._loops and waited_for != install.conditions:
                    self._loops[key][0].nudge.set()
            case Retire():
                await bench.edit(lambda: Edit(forgotten=(key,)), then=partial(bench.unseat, key))
                await bench.collect()
            case Wait():
                pass

    def _tend(self, group: asyncio.TaskGroup) -> None:
        """Every slot that is not settled has a loop."""
        ledger = self._bench.ledger
        for key in {*ledger.slots, *ledger.installs, *self._bench.seats} - self._loops.keys():
            slot_loop = SlotLoop(self._bench, key)
            if not slot_loop.is_settled:
                task = group.create_task(slot_loop.run(), name=f"install {key[0]} {key[1]}")
                self._loops[key] = slot_loop, task
                task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: SlotKey, task: "asyncio.Task[None]") -> None:
        if key in self._loops and self._loops[key][1] is task:
            del self._loops[key]
        self._wake.set()

    async def _stop(self, key: SlotKey) -> None:
        """Stops the slot's loop; what it was writing is written."""
        found = self._loops.get(key)
        if found is not None:
            found[1].cancel()
            await asyncio.wait({found[1]})
            self._loops.pop(key, None)


def recalling(bench: Bench, may_run: MayRun) -> Edit:
    """What must change now so that nothing is left that may not run."""
    ledger = bench.ledger
    slots, installs = tuple(ledger.slots.values()), tuple(ledger.installs.values())
    due = enforce(slots, installs, may_run, bench.now())
    return Edit(installs=due.installs, slots=due.slots)


async def note_soaks(bench: Bench, directive: Directive | None) -> float:
    """Writes down who has soaked; returns when the next one will have, in monotonic seconds.

    Raises:
        DiskFull, StoreError: it could not be written.
    """
    due = partial(soaking, bench, directive)
    if due().slots:
        await bench.edit(due)
    slots = bench.ledger.slots.values()
    return soaks(directive, slots, bench.counts, bench.clock.monotonic()).again_at


def soaking(bench: Bench, directive: Directive | None) -> Edit:
    """The slots that have soaked by now as they are asked to."""
    slots, now = bench.ledger.slots.values(), bench.clock.monotonic()
    return Edit(slots=soaks(directive, slots, bench.counts, now).reached)


def renewing(bench: Bench, wanted: Install) -> Edit:
    """The install as it stands by now, under the newer generation."""
    return renewed(bench.ledger.installs[wanted.key], wanted)


def lifted(store: DeviceStore, manifest_sha256: str) -> Sequence[Quarantine]:
    """Those that were kept out, and no longer are."""
    with store.transaction():
        kept = store.installs.quarantines()
        store.installs.lift_quarantine(manifest_sha256)
    return [one for one in kept if one.manifest_sha256 == manifest_sha256]


def key_of(step: Step) -> SlotKey:
    """The slot that the step is about."""
    match step:
        case Start(install=install) | Renew(install=install):
            return install.key
        case Retire(model=model, slot=slot) | Wait(model=model, slot=slot):
            return model, slot


def directive_in(envelope: bytes) -> Directive | None:
    """The accepted directive; None if there was none.

    Raises:
        MalformedDocument: the store has changed it.
    """
    if not envelope:
        return None
    try:
        return peek(envelope, Directive)
    except DocumentError as error:
        raise MalformedDocument(f"the stored directive: {error.detail}") from error
