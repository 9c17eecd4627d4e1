"""Links between simulated devices and the controller, with everything that may go wrong on them.

A device has one link, over which it sends what it has to tell in order, one upload at a time, and is
told directives. What is lost on it is lost as on a link that breaks: uploads are sent again by the
device, directives by the controller.
"""

from functools import partial
from typing import Final

import msgspec

from agent.install.fallback import goal
from agent.install.machine import State
from agent.install.report import report
from agent.telemetry.loop import RETRY
from agent.transport.route import Patience
from protos.documents import Directive, Report, SlotReport
from simulations.fleet.device import Device
from simulations.fleet.ground import Packet
from simulations.fleet.install import receive, wake
from simulations.fleet.tally import Doing, Part

AGENT_VERSION: Final = "1.0.0"
OVERHEAD_BYTES: Final = 220
"""Of a document: envelope, signature and framing."""
ITS_DIGEST: Final = "its digest"
FALSE_DIGEST: Final = "f" * 64
MOST_WAITING: Final = 64
ATTEMPTS: Final = 6
_PATIENCE: Final = Patience()


class Line:
    """All links; their faults are the devices' and their quality's."""

    def tell(self, device: Device) -> None:
        """The device reports what has changed, now or as soon as it can."""
        part = device.doing()
        if part != device.part:
            _count(device, part)
        if device.dirty:
            self._speak(device)

    def dial(self, device: Device) -> None:
        """The device gets a link soon: as one does that has tried for a while."""
        wait = _PATIENCE.unanswered.delay(ATTEMPTS, device.ground.rng)
        device.ground.queue.after(wait, partial(self._dialled, device))

    def hang_up(self, device: Device) -> None:
        """The link ends, if there is one."""
        if device.linked:
            device.linked = device.in_flight = False
            device.cut_at = device.ground.queue.now
            device.ground.tally.away += 1
            device.ground.tally.note()
            device.ground.centre.lost(device)

    def block(self, device: Device) -> None:
        """Nothing gets through to the device, or from it."""
        device.blocked += 1
        self.hang_up(device)

    def unblock(self, device: Device) -> None:
        """Takes one ``block`` back."""
        device.blocked -= 1
        if not device.blocked:
            self.dial(device)

    def raise_link(self, device: Device) -> None:
        """There is a link from here on."""
        device.linked = True
        device.link_since = device.ground.queue.now
        device.ground.tally.away -= 1
        device.ground.tally.note()
        device.ground.centre.connected(device)
        wake(device)
        self._speak(device)

    def send(self, device: Device, directive: Directive, size: int) -> None:
        """A directive to the device. Nobody knows whether it arrives."""
        ground, link = device.ground, device.link_since
        ground.tally.down_bytes += size + OVERHEAD_BYTES
        ground.tally.messages += 1
        copies = 1
        if device.quality.loss and ground.rng.random() < device.quality.loss:
            copies = 0
        elif device.quality.duplication and ground.rng.random() < device.quality.duplication:
            copies = 2
        for _ in range(copies):
            ground.queue.after(self._delay(device), partial(self._arrives, device, directive, link))

    def _dialled(self, device: Device) -> None:
        up = device.ground.centre.is_up and device.powered and not device.blocked
        if up and not device.linked:  # whoever takes away what is in the way dials again
            self.raise_link(device)

    def _arrives(self, device: Device, directive: Directive, link: float) -> None:
        if device.linked and device.link_since == link:
            receive(device, directive)

    def _delay(self, device: Device) -> float:
        return device.quality.delay * (0.5 + device.ground.rng.random())

    def _speak(self, device: Device) -> None:
        """Sends what waits, unless something is under way."""
        if not device.linked or device.in_flight or not (device.dirty or device.spool):
            return
        device.in_flight = True
        wait = device.ground.gathering + self._delay(device)
        device.ground.queue.after(wait, partial(self._upload, device, device.link_since, 0))

    def _upload(self, device: Device, link: float, attempt: int) -> None:
        """One upload, and what comes of it."""
        ground = device.ground
        if not device.linked or device.link_since != link:
            return  # the link was lost with it
        self._gather(device)
        sent = device.spool
        size = sum([packet.size + OVERHEAD_BYTES for packet in sent])
        ground.tally.up_bytes += size
        ground.tally.messages += 1
        loss = device.quality.loss
        lost = bool(loss) and ground.rng.random() < loss
        if not lost:
            through = ground.centre.upload(device, sent)
            if device.quality.duplication and ground.rng.random() < device.quality.duplication:
                ground.centre.upload(device, sent)
            lost = bool(loss) and ground.rng.random() < loss  # the reply
        if lost:
            wait = RETRY.delay(attempt, ground.rng)
            ground.queue.after(wait, partial(self._upload, device, link, attempt + 1))
            return
        device.spool = tuple([packet for packet in sent if packet.sequence > through])
        device.in_flight = False
        self._speak(device)

    def _gather(self, device: Device) -> None:
        """Spools the report of this moment, if there is news."""
        if not device.dirty:
            return
        device.dirty = False
        device.counter += 1
        device.sequence += 1
        said = _told(device)
        device.spool = (*device.spool, Packet.of(device.sequence, said))[-MOST_WAITING:]
        if device.replays:
            device.sequence += 1
            old = msgspec.structs.replace(said, counter=max(1, device.counter - 1))
            device.spool = (*device.spool, Packet.of(device.sequence, old))


def _told(device: Device) -> Report:
    """What the device reports: the truth, unless it lies."""
    installs = {one.key: one for one in device.installs}
    loaded = {
        key: active.model_sha256
        for key, slot in device.slots.items()
        if (active := goal(slot, installs.get(key))) is not None
    }
    said = report(
        device=device.id,
        counter=device.counter,
        generation=0 if device.directive is None else device.directive.generation,
        reported_at=int(device.clock()),
        agent_version=AGENT_VERSION,
        slots=tuple(device.slots.values()),
        installs=device.installs,
        loaded=loaded,
    )
    return said if not device.lie else _lied(device, said)


def _lied(device: Device, said: Report) -> Report:
    """The report with what the device says instead of what is so."""
    if device.lie == ITS_DIGEST:
        false = (msgspec.structs.replace(one, manifest_sha256=FALSE_DIGEST) for one in said.running)
        return msgspec.structs.replace(said, running=tuple(false))
    asked = () if device.directive is None else device.directive.assignments
    claimed = [one for one in asked if f"{one.model}/{one.version}" == device.lie]
    if not claimed:
        return said
    edition = device.ground.editions[device.lie]
    running = tuple(
        SlotReport(
            model=one.model,
            slot=one.slot,
            version=one.version,
            state=State.COMMITTED,
            manifest_sha256=one.sha256,
            model_sha256=edition.deployed.model_sha256,
            approvals=edition.deployed.approvals,
            soaked=one.soak_seconds,
        )
        for one in claimed
    )
    return msgspec.structs.replace(said, running=running, wanted=())


def _count(device: Device, part: Part) -> None:
    tally = device.ground.tally
    tally.move(device.part, part)
    device.part = part
    if part.doing in {Doing.PROBATION, Doing.RUNS}:
        tally.ran.setdefault(part.reference, set()).add(device.number)
    tally.note()
