"""What goes wrong, and how it ends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from simulations.fleet import duration
from simulations.fleet.centre import Controller
from simulations.fleet.device import Device
from simulations.fleet.install import restart, wake
from simulations.fleet.scenario import Fault, Kind, Moment

CRASH_SECONDS: Final = 60.0
NOTICED_SECONDS: Final = 300.0
"""An agent looks again whether there is room so often at most."""


class Faults:
    """Brings faults about."""

    def __init__(self, centre: Controller) -> None:
        self._centre = centre
        self._queue = centre.ground.queue

    def strike(self, fault: Fault, text: str, devices: Sequence[Device]) -> None:
        """It happens to these devices, or to the controller; and ends in time."""
        transcript = self._centre.transcript
        ours = fault.kind in {Kind.CRASH, Kind.CLOCK_JUMP}
        transcript.say("fault", text if ours else f"{text} ({_counted(len(devices))})")
        if ours:
            self._strike_controller(fault)
            return
        for device in devices:
            _hit(device, fault)
        if fault.seconds:
            self._queue.after(fault.seconds, partial(self._over, fault, text, devices))

    def _over(self, fault: Fault, text: str, devices: Sequence[Device]) -> None:
        length = duration.worded(fault.seconds)
        self._centre.transcript.say(
            "fault", f"over after {length}: {text.split(' for ', maxsplit=1)[0]}"
        )
        for device in devices:
            _heal(device, fault)

    def _strike_controller(self, fault: Fault) -> None:
        centre = self._centre
        if fault.kind is Kind.CLOCK_JUMP:
            centre.skew += fault.amount
            centre.wake()
            return
        centre.away = fault.seconds or CRASH_SECONDS
        if fault.how:
            centre.store.armed = Moment(fault.how)
        elif centre.is_up:
            centre.crash()


def _counted(devices: int) -> str:
    return "1 device" if devices == 1 else f"{devices} devices"


def _hit(device: Device, fault: Fault) -> None:
    if fault.kind in _QUALITIES:
        _degrade(device, fault.kind, fault.amount)
    else:
        _HITS[fault.kind](device, fault)


def _heal(device: Device, fault: Fault) -> None:
    if fault.kind in _QUALITIES:
        _degrade(device, fault.kind, getattr(device.ground.quality, fault.kind.value))
    elif fault.kind in _HEALS:
        _HEALS[fault.kind](device, fault)


def _degrade(device: Device, kind: Kind, amount: float) -> None:
    match kind:
        case Kind.LOSS:
            device.quality = replace(device.quality, loss=amount)
        case Kind.DELAY:
            device.quality = replace(device.quality, delay=amount)
        case _:
            device.quality = replace(device.quality, duplication=amount)


def _cut_off(device: Device, _: Fault) -> None:
    device.ground.line.block(device)


def _back(device: Device, _: Fault) -> None:
    device.ground.line.unblock(device)


def _lose_power(device: Device, fault: Fault) -> None:
    if fault.how:
        device.cuts = (fault.how, int(fault.amount) or 1)
    else:
        restart(device, "lose power")


def _fill(device: Device, _: Fault) -> None:
    device.disk_full = True


def _free(device: Device, _: Fault) -> None:
    device.disk_full = False
    ground = device.ground
    ground.queue.after(ground.rng.random() * NOTICED_SECONDS, partial(wake, device))


def _skew(device: Device, fault: Fault) -> None:
    device.skew += fault.amount
    wake(device)


def _set_right(device: Device, fault: Fault) -> None:
    device.skew -= fault.amount
    wake(device)


def _slow(device: Device, fault: Fault) -> None:
    device.slowness *= fault.amount


def _speed_up(device: Device, fault: Fault) -> None:
    device.slowness /= fault.amount


def _lie(device: Device, fault: Fault) -> None:
    device.lie = fault.how


def _replay(device: Device, _: Fault) -> None:
    device.replays = True


_QUALITIES: Final = frozenset({Kind.LOSS, Kind.DELAY, Kind.DUPLICATION})
_Act = Callable[[Device, Fault], None]
_HITS: Final[Mapping[Kind, _Act]] = {
    Kind.PARTITION: _cut_off,
    Kind.OFFLINE: _cut_off,
    Kind.POWER_CUT: _lose_power,
    Kind.DISK_FULL: _fill,
    Kind.CLOCK_SKEW: _skew,
    Kind.SLOW: _slow,
    Kind.LIES: _lie,
    Kind.REPLAYS: _replay,
}
_HEALS: Final[Mapping[Kind, _Act]] = {
    Kind.PARTITION: _back,
    Kind.OFFLINE: _back,
    Kind.DISK_FULL: _free,
    Kind.CLOCK_SKEW: _set_right,
    Kind.SLOW: _speed_up,
}
