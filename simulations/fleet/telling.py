"""What devices have told of the versions that they run, drawn only when a gate asks for it.

In life every device tells a window of counts every few minutes, and the controller adds them up. Here
the sums of the windows that a device would have told by now are drawn at once, from what is true of
it, and they only grow: whoever asks again gets the same and more. The chance is their own, so that
nothing else comes out otherwise because somebody looked.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.monitor.total import Sums
from protos.limits import LATENCY_BUCKETS_SECONDS
from simulations.fleet.device import Device
from simulations.fleet.ground import Ground
from simulations.fleet.queue import EPOCH
from simulations.fleet.truth import BASE_P99_SECONDS, Conduct
from simulations.memory_store.journal import Journal
from simulations.memory_store.telemetry import Told
from simulations.memory_store.totals import MemoryTotals

WINDOW_SECONDS: Final = 300.0
SPREAD: Final = 0.4
"""Of the logarithm of one device's latencies."""
_Z99: Final = 2.3263478740408408  # standard normal quantile of 0.99
_LOG_BOUNDS: Final = np.log(np.array(LATENCY_BUCKETS_SECONDS))


@dataclass(frozen=True, slots=True)
class Trait:
    """How a device differs from others, with every version."""

    errors: float
    latency: float
    confidence: float
    drift: float


@dataclass(slots=True)
class _Sum:
    """What was told from a time up to ``until``, in seconds since the beginning."""

    until: float
    requests: int = 0
    failed: int = 0
    confidence: float = 0.0
    judged: int = 0
    moved: int = 0
    faulty: int = 0
    latency: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(LATENCY_BUCKETS_SECONDS) + 1, np.int64)
    )

    def sums(self) -> Sums:
        """As the controller keeps them."""
        return Sums(
            judged=self.judged,
            faulty=self.faulty,
            moved=self.moved,
            requests=self.requests,
            failed=self.failed,
            answers=self.requests - self.failed,
            confidence=self.confidence,
            latency_counts=tuple(self.latency.tolist()),
        )


class Tellings(MemoryTotals):
    """``controller.store.store.Totals`` of devices that need tell nothing until somebody asks."""

    def __init__(
        self, journal: Journal, told: Told, ground: Ground, devices: Mapping[str, Device], seed: int
    ) -> None:
        super().__init__(journal, told)
        self._ground = ground
        self._devices = devices
        self._seed = seed
        self._chance = np.random.Generator(np.random.PCG64([seed, *b"telling"]))
        self._sums: dict[tuple[int, str, int], _Sum] = {}
        self._traits: dict[int, Trait] = {}

    def since(self, model: str, version: int, ends: Mapping[str, int]) -> Mapping[str, Sums]:
        """What devices have told since: see the Protocol."""
        reference, found = f"{model}/{version}", {}
        for device, end in ends.items():
            known = self._devices.get(device)
            if known is not None:
                told = self._told_by(known, model, reference, end)
                if told is not None and told.requests:
                    found[device] = told.sums()
        return found

    def _told_by(self, device: Device, model: str, reference: str, end: int) -> _Sum | None:
        key = (device.number, reference, end)
        told = self._sums.get(key)
        slot = device.slots.get((model, "champion"))
        active = None if slot is None else slot.active
        if active is None or f"{model}/{active.version}" != reference:
            return told  # it has told all that it ever will
        now = self._ground.queue.now if device.linked else device.cut_at
        began = max(end / 1000 - EPOCH, device.switched_at)
        told = told or _Sum(until=began)
        windows = math.floor((now - told.until) / WINDOW_SECONDS)
        if windows > 0:
            elapsed = now - device.switched_at
            conduct = self._ground.editions[reference].conduct(device.number, elapsed)
            self._extend(told, device, conduct, windows)
        self._sums[key] = told
        return told

    def _extend(self, told: _Sum, device: Device, conduct: Conduct, windows: int) -> None:
        """Draws so many windows more."""
        chance, trait = self._chance, self._trait(device.number)
        seconds = windows * WINDOW_SECONDS
        asked = int(chance.poisson(self._ground.requests_per_second * seconds))
        failed = int(chance.binomial(asked, min(1.0, conduct.errors * trait.errors)))
        answered = asked - failed
        p99 = BASE_P99_SECONDS * conduct.slower * device.slowness * trait.latency
        told.until += seconds
        told.requests += asked
        told.failed += failed
        told.latency += chance.multinomial(answered, _shares(round(math.log(p99), 3)))
        mean = min(1.0, max(0.0, conduct.confidence + trait.confidence))
        told.confidence += answered * mean + chance.normal(0.0, 0.1 * math.sqrt(answered))
        told.judged += windows
        told.moved += int(chance.binomial(windows, min(1.0, conduct.drift * trait.drift)))
        told.faulty += int(chance.binomial(windows, min(1.0, conduct.bad_data * trait.drift)))

    def _trait(self, number: int) -> Trait:
        known = self._traits.get(number)
        if known is None:
            chance = np.random.Generator(np.random.PCG64([self._seed, number]))
            known = self._traits[number] = Trait(
                errors=math.exp(chance.normal(0.0, 0.4)),
                latency=math.exp(chance.normal(0.0, 0.1)),
                confidence=float(chance.normal(0.0, 0.015)),
                drift=math.exp(chance.normal(0.0, 0.3)),
            )
        return known


@lru_cache(maxsize=4096)
def _shares(log_p99: float) -> NDArray[np.float64]:
    """Which share of lognormal latencies with that p99 falls into each bucket."""
    middle = log_p99 - _Z99 * SPREAD
    below = [0.5 * math.erfc((middle - bound) / (SPREAD * math.sqrt(2.0))) for bound in _LOG_BOUNDS]
    shares: NDArray[np.float64] = np.diff(np.array([0.0, *below, 1.0]))
    return shares / float(shares.sum())
