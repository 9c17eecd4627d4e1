"""Builds the agent: configuration → adapters → loops in one TaskGroup."""

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from agent.around import Around
from agent.circumstances import read_circumstances
from agent.clock import Clock, SystemClock
from agent.commands import Commands
from agent.config import AgentConfig
from agent.errors import AgentError, NotEnrolled, StoreError
from agent.facts import agent_version, read_facts
from agent.home import Home
from agent.identity import keys
from agent.identity.actions import device_key
from agent.identity.loop import keep_renewed
from agent.inference.actions import Deployments
from agent.install.change import Change
from agent.install.lifting.loop import LiftLoop
from agent.install.loop import InstallLoop
from agent.install.probation import ProbationPolicy
from agent.install.report import report
from agent.link_note import LinkNote
from agent.monitor.loop import MonitorLoop
from agent.monitor.observer import Observer
from agent.monitor.reference import Reference, read_reference
from agent.monitor.wishes import Wishes
from agent.routes import Paths, enrolment_dialer, routes
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.self_test import ProcessSelfTest
from agent.serving.faces import Faces
from agent.serving.workers import Workers
from agent.store.blob_folder import BlobFolder
from agent.store.device_store import DeviceStore, Identity
from agent.store.lift_requests import LiftRequests
from agent.store.spool_order import SpoolLimits
from agent.store.sqlite_store import SqliteStore
from agent.taking_part import TakingPart, taking_part
from agent.telemetry.actions import Reporter
from agent.telemetry.loop import ReportLoop, ResourcesLoop, UploadLoop
from agent.transport import controller_client
from agent.transport.backoff import Backoff
from agent.transport.connection import Connection
from agent.transport.link import Link
from agent.transport.mirror import Mirror
from agent.transport.route import Patience, looks_every
from agent.trust.actions import ImageTrust
from agent.trust.loop import DirectiveLoop, RefreshLoop
from agent.uplink import Uplink
from agent.waiting import listening_for_the_end
from protos.documents import Directive, Report

log = logging.getLogger(__name__)

Learning = Callable[[Around], TakingPart]


async def run(
    home: Home,
    config: AgentConfig,
    clock: Clock | None = None,
    learning: Learning = taking_part,
) -> None:
    """Serves, watches and reports until SIGTERM or SIGINT; ``learning`` makes its part in that.

    Raises:
        NotEnrolled: this machine is no device yet.
        StoreError, ConfigError: the folder or a port can't be used.
    """
    limits = SpoolLimits(config.reporting.spool_records, config.reporting.spool_bytes)
    store = await asyncio.to_thread(SqliteStore, home.path, limits)
    try:
        identity = store.identity.load()
        if identity is None:
            raise NotEnrolled(f"{home.path}: this machine is not enrolled")
        await Agent(home, config, clock or SystemClock(), store, identity, learning).run()
    finally:
        store.close()


class Agent:
    """One device's agent: every part, and what each tells the others."""

    def __init__(
        self,
        home: Home,
        config: AgentConfig,
        clock: Clock,
        store: DeviceStore,
        identity: Identity,
        learning: Learning = taking_part,
    ) -> None:
        rng = random.Random()  # noqa: S311 - jitter, not secrets
        key_pem = device_key(home.key, identity)
        self._home, self._config, self._identity, self._clock = home, config, identity, clock
        self._certificate = identity.certificate_pem
        self._circumstances = partial(
            read_circumstances, timezone=config.device.timezone, metered=config.device.metered
        )
        self._facts = partial(read_facts, home.path, config.device.timezone)
        blobs, runtime = BlobFolder(home.blobs), OnnxRuntime()
        backoff = Backoff(config.connecting.backoff_seconds, config.connecting.backoff_cap_seconds)

        self.deployments: Deployments[Observer, Reference] = Deployments(
            {runtime.name: runtime}, blobs.read, read_reference, Observer
        )
        self.commands = Commands()
        self.connection = self._connection(store, key_pem, rng, backoff)
        self.link_note = LinkNote(
            home.link, lambda: self.connection.via, lambda: self.connection.last_error, clock
        )
        self.trust, self.uplink = self._trust_and_uplink(store, blobs)
        self.uploads = UploadLoop(
            store,
            self.uplink.upload,
            clock,
            rng,
            interval=config.reporting.interval_seconds,
            backoff=backoff,
        )
        reporter = Reporter(store, keys.signer(key_pem), self._say, clock)
        self.reports = ReportLoop(reporter, self.uploads.wake)
        self.installs = self._install_loop(store, blobs, rng, runtime)
        self.refreshes, self.directives = self._trust_loops(rng, backoff)
        self.commands.directives, self.commands.refreshes = self.directives, self.refreshes
        self.monitor = monitor_of(self.deployments, store, config, clock)
        self.resources = ResourcesLoop(
            store, home.path, clock, interval=config.reporting.resources_seconds
        )
        self.workers = Workers(config.serving.threads)
        self.training = learning(self._around(store, blobs, rng))
        self.commands.federated = self.training.take
        dial = enrolment_dialer(home, config, clock, self.connection)
        self._renewal = partial(keep_renewed, home.key, store, clock, rng, dial, self._on_renewed)

    def _connection(
        self, store: DeviceStore, key_pem: bytes, rng: random.Random, backoff: Backoff
    ) -> Connection:
        connecting = self._config.connecting
        paths = Paths(
            identity=self._identity,
            config=self._config,
            key_pem=key_pem,
            certificate_pem=lambda: self._certificate,
            next_session=store.identity.next_counter,
            on_desired=self.commands.offer,
        )
        return Connection(
            routes(self._home, paths, self._clock, rng),
            self._clock,
            rng,
            self.commands.take,
            self._on_up,
            Patience(unanswered=backoff, looks=looks_every(connecting.return_seconds)),
        )

    def _trust_and_uplink(self, store: DeviceStore, blobs: BlobFolder) -> tuple[ImageTrust, Uplink]:
        self._mirror = mirror_of(self._home, self._config)
        asked = None if self._mirror is None else self._mirror.metadata
        trust = ImageTrust(store, self._clock, agent_version(), mirror=asked)
        return trust, Uplink(self.connection, blobs, trust, self._mirror)

    def _install_loop(
        self, store: DeviceStore, blobs: BlobFolder, rng: random.Random, runtime: OnnxRuntime
    ) -> InstallLoop:
        trying = self._config.installing
        return InstallLoop(
            store=store,
            blobs=blobs,
            trust=self.uplink,
            fetcher=self.uplink,
            self_test=ProcessSelfTest(blobs.path_of, trying.self_test_seconds),
            deployments=self.deployments,
            facts=self._facts,
            opsets=lambda: {runtime.name: runtime.highest_opset()},
            circumstances=self._circumstances,
            clock=self._clock,
            on_change=self._on_change,
            on_load=self.reports.report,
            policy=ProbationPolicy(
                minimum_seconds=min(ProbationPolicy().minimum_seconds, trying.probation_seconds),
                minimum_requests=trying.probation_requests,
                maximum_seconds=trying.probation_seconds,
            ),
            retry_seconds=trying.retry_seconds,
            retry_cap_seconds=trying.retry_cap_seconds,
            rng=rng,
        )

    def _around(self, store: DeviceStore, blobs: BlobFolder, rng: random.Random) -> Around:
        return Around(
            home=self._home,
            config=self._config,
            store=store,
            blobs=blobs,
            deployments=self.deployments,
            workers=self.workers,
            uplink=lambda into: Uplink(self.connection, into, self.trust, self._mirror),
            circumstances=self._circumstances,
            reports=self.reports,
            clock=self._clock,
            rng=rng,
        )

    def _trust_loops(
        self, rng: random.Random, backoff: Backoff
    ) -> tuple[RefreshLoop, DirectiveLoop]:
        refreshes = RefreshLoop(
            self.trust,
            self.uplink.metadata,
            self._on_limits,
            self._clock,
            rng,
            self._config.connecting.trust_refresh_seconds,
        )
        directives = DirectiveLoop(
            self.trust,
            self.uplink.metadata,
            self._on_accepted,
            lambda error: self.reports.event("directive.refused", error.code, error.detail),
            self._clock,
            rng,
            backoff,
        )
        return refreshes, directives

    async def run(self) -> None:
        """Until told to end. What is under way is finished; what was counted is kept."""
        told = listening_for_the_end()  # first of all: from here on it ends in good order
        serving, training = self._config.serving, self.training
        faces = Faces(
            self.deployments, self.workers, serving, training.collector, training.measured
        )
        try:
            ports = await faces.start()
            _write(self._home.ports, msgspec.json.encode({"pid": os.getpid(), **ports}))
            log.info("agent.up device=%s ports=%s", self._identity.device, ports)
            await self._until(
                told,
                self.connection.run(),
                self.link_note.run(),
                self._install(),
                LiftLoop(LiftRequests(self._home.path), self.installs.lift, self._clock).run(),
                self.refreshes.run(),
                self.directives.run(),
                self.monitor.run(),
                self.uploads.run(),
                self.reports.run(),
                self.resources.run(),
                self._renewal(),
                *self.training.loops(),
            )
        finally:
            self._home.ports.unlink(missing_ok=True)
            await faces.stop()
            self.workers.close()
            self.monitor.keep()  # what was answered while the loops ended is counted too
            await self._rest()
            await self.training.rest()
            await self.reports.flush()
            self.deployments.close()
            log.info("agent.down device=%s", self._identity.device)

    async def _until(self, told: asyncio.Event, *loops: Coroutine[Any, Any, Any]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop) for loop in loops]
            # A change may have become durable right before the last end: say how things are.
            self.reports.report()
            await told.wait()
            for task in tasks:
                task.cancel()

    async def _install(self) -> None:
        """What is known to be recalled never answers, not even until the first refresh."""
        with contextlib.suppress(AgentError):  # told below
            await asyncio.to_thread(self.trust.limits)  # here, and not on the event loop
        try:
            await self._on_limits()
        except AgentError as error:  # it answers no more, but the disk does not say so yet
            log.error("install.not-enforced code=%s detail=%s", error.code, error.detail)
        await self.installs.run()

    async def _rest(self) -> None:
        try:
            await self.installs.rest()
        except AgentError as error:
            log.warning("install.not-rested code=%s detail=%s", error.code, error.detail)

    async def _on_up(self, link: Link) -> None:
        """A link has come up: say what this is, and go on with what waited for it."""
        await controller_client.publish_facts(link, await asyncio.to_thread(self._facts))
        self.uploads.link_up()
        self.installs.wake()
        self.refreshes.trigger()
        self.training.link_up()

    def _on_accepted(self, _: Directive) -> None:
        self.installs.wake()
        self.reports.report()

    async def _on_limits(self) -> None:
        """Recalls or floors have changed: what may not run, ends."""
        await self.installs.enforce(self.trust.objection)

    def _on_change(self, change: Change) -> None:
        """An install or a slot has changed, durably: report it."""
        self.reports.event(
            change.name,
            change.code,
            change.detail,
            model=change.model,
            version=change.version,
            fields=dict(change.fields),
        )
        self.reports.report()
        self.training.wake()

    def _on_renewed(self, identity: Identity) -> None:
        self._certificate = identity.certificate_pem

    def _say(self, **moment: Any) -> Report:
        return report(
            device=self._identity.device,
            agent_version=agent_version(),
            loaded=self.installs.loaded(),
            **moment,
        )


def monitor_of(
    deployments: Deployments[Observer, Reference],
    store: DeviceStore,
    config: AgentConfig,
    clock: Clock,
) -> MonitorLoop:
    """What watches the data of whatever answers."""
    return MonitorLoop(
        store,
        deployments,
        clock,
        rows=config.watching.window_rows,
        seconds=config.watching.window_seconds,
        wishes=Wishes(store.installs.directive),
        checkpoint_seconds=config.watching.checkpoint_seconds,
    )


def mirror_of(home: Home, config: AgentConfig) -> Mirror | None:
    """The mirror that is configured; None if there is none.

    Raises:
        ConfigError: its address or its CA can't be used.
    """
    if not config.mirror.url:
        return None
    from agent.transport.http_mirror import configured_mirror  # noqa: PLC0415 - few have one

    return configured_mirror(config.mirror, home.path)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
