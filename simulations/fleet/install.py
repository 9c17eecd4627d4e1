"""Installs on a simulated device: the twin of ``agent.install.loop`` and its slots' loops.

They decide with the same modules; what takes time here is due later in the queue, and nothing waits.
"""

import math
from collections.abc import Collection
from functools import partial
from typing import Final

from agent.errors import AgentError, StaleDirective, TransportError
from agent.install.attempts import resume, retry_delay
from agent.install.edit import (
    Edit,
    changes_of,
    is_quarantined,
    is_redeemed,
    quarantine_of,
    rejected,
    renewed,
)
from agent.install.ledger import is_empty
from agent.install.machine import FINAL, Event, State
from agent.install.outcome import outcome_of
from agent.install.progress import passed
from agent.install.reconcile import Device as Known
from agent.install.reconcile import Renew, Retire, Start, Step, reconcile
from agent.install.record import Install, Slot, SlotKey
from agent.install.soak import answering, soaks
from agent.trust.directive import check_newer
from protos.documents import Directive
from simulations.fleet import work
from simulations.fleet.device import Device, without

RETRY_SECONDS: Final = 5.0
RETRY_CAP_SECONDS: Final = 300.0
BOOT_SECONDS: Final = 20.0


def receive(device: Device, directive: Directive) -> None:
    """Takes a directive, unless it is older than the one that the device has."""
    before = device.directive
    try:
        if before is not None:
            check_newer(directive, before.generation, before.assignments)
    except StaleDirective:
        device.ground.chronicle.happened(device, "refuse an older directive")
        return
    device.directive = directive
    device.dirty = device.dirty or before is None or before.generation != directive.generation
    follow(device)


def follow(device: Device) -> None:
    """Does what the directive asks for, as far as it can be done now, and tells what changed."""
    again = True
    while again:
        known = Known(tuple(device.slots.values()), device.installs, device.quarantined)
        for step in reconcile(device.directive, known, device.clock()):
            _carry_out(device, step)
        # What has come to its end may be asked for anew, or something else instead of it.
        again = False
        for key in device.idle():
            again |= _go_on(device, key)
    _note_soaks(device)
    device.ground.line.tell(device)


def wake(device: Device) -> None:
    """Tries at once what was put off."""
    for install in device.installs:
        if install.state not in FINAL and install.not_before:
            device.end_turn(install.key)
            _go_on(device, install.key, nudged=True)
    follow(device)


def restart(device: Device, how: str, seconds: float = BOOT_SECONDS) -> None:
    """The agent ends in the middle of whatever it does, and is back after so long."""
    if not device.powered:
        return
    under_way = [one.state for one in device.installs if one.state not in FINAL]
    device.ground.chronicle.happened(device, f"{how} in {under_way[0]}" if under_way else how)
    device.turns, device.counts = {}, ()
    device.powered = False
    device.ground.line.hang_up(device)
    device.ground.queue.after(seconds, partial(_boot, device))


def _boot(device: Device) -> None:
    """The agent starts: what the restart means to its installs is written before they go on."""
    device.powered, now = True, device.clock()
    resumed = [(one, resume(one, now)) for one in device.installs]
    _write(device, Edit(installs=tuple(after for before, after in resumed if after != before)))
    _answers_anew(device)
    for slot in device.slots.values():
        _count(device, slot)
    device.dirty = True  # an agent reports once at its start
    follow(device)
    device.ground.line.dial(device)


def _carry_out(device: Device, step: Step) -> None:
    match step:
        case Start(install=install, slot=slot):
            device.end_turn(install.key)
            slots = (slot,) if slot is not None else ()
            _write(device, Edit(installs=(install,), slots=slots))
        case Renew(install=install):
            _write(device, renewed(device.install(install.key), install))
            device.dirty = True
        case Retire(model=model, slot=slot_name):
            device.end_turn((model, slot_name))
            _write(device, Edit(forgotten=((model, slot_name),)))
        case _:
            pass


def _go_on(device: Device, key: SlotKey, *, nudged: bool = False) -> bool:
    """Leads the install on until it takes time; whether it came to its end."""
    while (install := device.install(key)).state not in FINAL:
        now = device.clock()
        if install.not_before > now and not nudged:
            if _may_retry(device, install):
                _later(device, key, install.not_before - now, due=False)
            return False
        nudged = False
        if not device.linked and install.state in work.NEEDS_LINK:
            _reject(device, install, TransportError("no link within 20 s"))
            continue
        seconds = work.seconds(device, install)
        if device.cuts is not None and _power_goes(device, install, seconds):
            return False
        if seconds > 0:
            device.work_since = device.ground.queue.now
            _later(device, key, seconds, due=True)
            return False
        if work.is_plain(device, install):  # no decision, and nobody tells of it
            device.put_install(passed(install, now))
            device.dirty = True
        else:
            _complete(device, key)
    return True


def _may_retry(device: Device, install: Install) -> bool:
    """Whether trying again could help before something else happens, which then wakes it."""
    if device.disk_full and install.state is State.PREFLIGHT:
        return False
    return device.linked or install.state not in work.NEEDS_LINK


def _later(device: Device, key: SlotKey, seconds: float, *, due: bool) -> None:
    turn = device.take_turn(key)
    device.ground.queue.after(seconds, partial(_turn, device, key, turn, due))


def _turn(device: Device, key: SlotKey, turn: int, due: bool) -> None:
    if device.turns.get(key) != turn:
        return  # it was stopped, or the power went
    device.end_turn(key)
    install = device.install(key)
    if due and install.state is State.PROBATION and _crashes(device, install):
        restart(device, "crash")
        return
    if due:
        _complete(device, key)
    if _go_on(device, key):
        follow(device)  # what has come to its end may be asked for anew
    else:
        device.ground.line.tell(device)


def _crashes(device: Device, install: Install) -> bool:
    return device.ground.by_digest[install.sha256].conduct(device.number, 0.0).crashes


def _complete(device: Device, key: SlotKey) -> None:
    """Writes down what the state's work has come to."""
    install = device.install(key)
    try:
        edit = work.result(device, install)
    except AgentError as error:
        _reject(device, install, error)
        return
    device.failures = 0
    if edit is not None:
        _write(device, edit)
        if install.state is State.SWITCHING:
            device.switched_at = device.ground.queue.now
            _answers_anew(device)


def _answers_anew(device: Device) -> None:
    device.since = device.ground.queue.now
    device.looked = 0.0
    device.requests = device.errors = 0


def _count(device: Device, slot: Slot) -> None:
    """Notes since when what answers in the slot does, if it is proven."""
    proven = slot.active if slot.active == slot.committed else None
    counts = dict(device.counts)
    count = answering(counts.pop(slot.key, None), proven, device.ground.queue.now)
    if count is not None:
        counts[slot.key] = count
    device.counts = tuple(counts.items())


def _note_soaks(device: Device) -> None:
    """Writes down who has soaked, and looks again when the next one will have."""
    queue = device.ground.queue
    found = soaks(device.directive, device.slots.values(), dict(device.counts), queue.now)
    if found.reached:
        _write(device, Edit(slots=found.reached))
        device.dirty = True
    if found.again_at < math.inf and found.again_at != device.soaks_at:
        queue.at(found.again_at, partial(_look_at_soaks, device, found.again_at))
    device.soaks_at = found.again_at


def _look_at_soaks(device: Device, due: float) -> None:
    if device.powered and device.soaks_at == due:
        device.soaks_at = math.inf
        _note_soaks(device)
        device.ground.line.tell(device)


def _reject(device: Device, install: Install, error: AgentError) -> None:
    outcome = outcome_of(error, install.tries + 1)
    until = 0.0
    if outcome.event is Event.DEFER:
        share = device.ground.rng.random()
        delay = retry_delay(device.failures, RETRY_SECONDS, RETRY_CAP_SECONDS, share)
        until = outcome.until or device.clock() + delay
        device.failures += 1
    _write(device, rejected(install, outcome, until, device.clock()))


def _write(device: Device, edit: Edit) -> None:
    installs = {(one.model, one.slot): one for one in device.installs}
    for change in changes_of(edit, installs):
        device.ground.chronicle.changed(device, change)
        device.dirty = True
    if edit.forgotten:
        _forget(device, edit.forgotten)
    for slot in edit.slots:
        slots = {**device.slots, slot.key: slot}
        if is_empty(slot):
            del slots[slot.key]
        device.put_slots(slots)
        _count(device, slot)
    for install in edit.installs:
        if install.state is State.REVERTING or device.quarantine:
            _keep_out(device, installs.get(install.key), install)
        device.put_install(install)


def _forget(device: Device, keys: Collection[SlotKey]) -> None:
    device.put_slots({key: slot for key, slot in device.slots.items() if key not in keys})
    device.installs = tuple(one for one in device.installs if one.key not in keys)
    device.counts = tuple(one for one in device.counts if one[0] not in keys)


def _keep_out(device: Device, before: Install | None, install: Install) -> None:
    """What the move puts into quarantine, or takes out of it."""
    kept = device.quarantine.get(install.sha256)
    if is_quarantined(before, install):
        if kept is None or not kept.refuses(install.rollout, install.attempt):
            put_out = quarantine_of(install, device.clock())
            device.quarantine = {**device.quarantine, install.sha256: put_out}
    elif is_redeemed(before, install, kept):
        device.quarantine = without(device.quarantine, install.sha256)


def _power_goes(device: Device, install: Install, seconds: float) -> bool:
    """Whether the power is about to go in this state, in the middle of its work."""
    state, times = device.cuts or ("", 0)
    if install.state != state:
        return False
    device.cuts = (state, times - 1) if times > 1 else None
    device.take_turn(install.key)  # nothing else goes on there
    device.ground.queue.after(seconds / 2, partial(restart, device, "lose power"))
    return True
