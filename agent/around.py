"""What a device's part in training is built upon: the rest of its agent."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from agent.clock import Clock
from agent.config import AgentConfig
from agent.home import Home
from agent.inference.actions import Deployments
from agent.install.gates import Circumstances
from agent.monitor.observer import Observer
from agent.monitor.reference import Reference
from agent.serving.workers import Workers
from agent.store.blob_folder import BlobFolder
from agent.store.device_store import DeviceStore
from agent.telemetry.loop import ReportLoop
from agent.uplink import Uplink


@dataclass(frozen=True, slots=True)
class Around:
    """See above.

    Attributes:
        blobs: of the bundles.
        uplink: makes one that fetches into a folder.
        circumstances: what the device is in at a moment; see ``agent.circumstances``.
    """

    home: Home
    config: AgentConfig
    store: DeviceStore
    blobs: BlobFolder
    deployments: Deployments[Observer, Reference]
    workers: Workers
    uplink: Callable[[BlobFolder], Uplink]
    circumstances: Callable[[datetime], Circumstances]
    reports: ReportLoop
    clock: Clock
    rng: random.Random
