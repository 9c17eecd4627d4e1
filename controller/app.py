"""Builds the controller: configuration → adapters → loops in one TaskGroup."""

import asyncio
import contextlib
import gc
import logging
import platform
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Final

from agent.clock import Clock, SystemClock
from agent.runtimes.onnx import OnnxRuntime
from agent.waiting import listening_for_the_end
from controller import descriptors
from controller.config import ControllerConfig
from controller.desk import DeviceDesk
from controller.errors import DeviceOffline
from controller.federation import Federation
from controller.home import Home, terms
from controller.retention.loop import RetentionLoop
from controller.retraining.loop import RetrainingLoop
from controller.rollout.loop import RolloutLoop
from controller.runtimes.preparation import ProcessPreparation
from controller.signing.loop import ResignLoop
from controller.store.blob_folder import BlobFolder
from controller.store.certificate_files import open_certificates
from controller.store.key_files import KeyFiles
from controller.store.store import Store
from controller.transport.courier import Courier
from controller.transports import Transports
from controller.web.app import create_app
from controller.web.server import WebServer
from controller.web.services import ControllerServices
from protos.v1 import command_pb2

log = logging.getLogger(__name__)

REFRESH: Final = command_pb2.Command(refresh_trust=command_pb2.RefreshTrust()).SerializeToString()


async def run(home: Home, config: ControllerConfig, clock: Clock | None = None) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        ControllerError: the folder, the configuration or a port can't be used.
    """
    log.debug("controller.files most=%d", descriptors.raise_limit())
    # What was imported stays: to look through it for garbage would stop everything for 0.1 s each time.
    gc.collect()
    gc.freeze()
    store = await asyncio.to_thread(home.open_store)
    try:
        await _serve(home, config, clock or SystemClock(), store)
    finally:
        store.close()


async def _serve(home: Home, config: ControllerConfig, clock: Clock, store: Store) -> None:
    told_to_end = listening_for_the_end()  # first of all: from here on it ends in good order
    certificates = open_certificates(home.certificates, config.names, clock.now())
    online, lifetimes = home.online_signers(), config.lifetimes.metadata()
    conditions = terms(home, config, certificates)
    blobs = BlobFolder.open(home.blobs)

    desk = DeviceDesk(store, blobs, clock, conditions)
    transports = Transports(home, config, certificates, desk, store, clock)
    holder = f"{platform.node()}:{home.path}"
    director = KeyFiles(home.keys).signer("director")
    rollouts = RolloutLoop(store, transports.sessions, director, clock, holder=holder)
    desk.rollouts = rollouts
    runtime = OnnxRuntime()
    federation = Federation(home, store, blobs, clock, transports.sessions, holder)
    federation.attend(desk)
    interval = config.retraining.interval_seconds
    retraining = RetrainingLoop(store, blobs, clock, interval, federation.runs.wake, holder)
    notices = Notices(transports.sessions)
    services = ControllerServices(
        store=store,
        blobs=blobs,
        runtime=runtime,
        clock=clock,
        online=online,
        terms=lambda: conditions,
        wake_rollouts=rollouts.wake,
        wake_runs=federation.runs.wake,
        announce=notices.announce,
        disconnect=notices.disconnect,
        lifetimes=lifetimes,
        join_token_seconds=config.lifetimes.join_token_hours * 3600,
        open_metrics=config.telemetry.open_metrics,
        preparing=ProcessPreparation(),
    )
    web = WebServer(create_app(services), home.certificates / "server.pem")
    retention = timedelta(days=config.telemetry.retention_days)
    removal = RetentionLoop(store, blobs, clock, retention, replies=federation.replies)
    resigning = ResignLoop(store, online, clock, lifetimes)

    listening = config.listening
    try:
        await transports.start()
        await web.start(listening.host, listening.api_port)
        log.info("controller.up home=%s api-port=%d", home.path, listening.api_port)
        async with asyncio.TaskGroup() as group:
            federated = (federation.orders, federation.runs)
            loops = (transports, rollouts, resigning, removal, retraining, *federated)
            tasks = [group.create_task(loop.run()) for loop in loops]
            await told_to_end.wait()
            for task in tasks:
                task.cancel()
    finally:
        await web.stop()
        await transports.stop()
        log.info("controller.down")


class Notices:
    """What the API's threads have the courier do; each call returns at once."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._loop = asyncio.get_running_loop()

    def announce(self) -> None:
        """Tells every connected device that there is new image metadata."""
        self._soon(self._announce())

    def disconnect(self, device: str) -> None:
        """Cuts the device's link."""
        self._soon(self._courier.disconnect(device))

    async def _announce(self) -> None:
        for device in self._courier.connected():
            with contextlib.suppress(DeviceOffline):
                await self._courier.send(device, REFRESH)

    def _soon(self, act: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(act, self._loop)
