"""What people ask of the fleet, and what devices tell of themselves."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import DecodeError

from controller.audit import Entry
from controller.errors import InvalidInput, NotFound, TooLarge
from controller.fleet.attributes import (
    attributes,
    check_key,
    check_labels,
    flatten,
    seen_by_selectors,
)
from controller.fleet.device import Device, DeviceStatus, SlotState
from controller.fleet.presence import Presence, presence
from controller.fleet.selector import Explanation, explain, matches
from controller.fleet.selector_parser import parse
from controller.fleet.tally import Tally, tally
from controller.rollout.rollout import Wanted
from controller.store.store import Transaction
from controller.telemetry.record import StoredResources
from protos.v1 import common_pb2

MAX_FACTS_BYTES = 64 * 1024

AnyRow = TypeVar("AnyRow", SlotState, Wanted)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device with what it runs, what is wanted of it, and the generation it was last told.

    Attributes:
        resources: what its agent last said that it uses; None if it has not said it.
        dropped: by kind, records that the device had no room to keep until they were sent.
    """

    device: Device
    presence: Presence
    slots: tuple[SlotState, ...]
    wanted: tuple[Wanted, ...]
    generation: int = 0
    resources: StoredResources | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)


def list_devices(tx: Transaction, now: float, selector: str = "all") -> tuple[DeviceView, ...]:
    """The devices that ``selector`` matches, by id; of each what ``show`` tells, in part.

    Raises:
        BadSelector: the selector can't be read.
    """
    chosen = parse(selector)
    slots = _by_device(tx.devices.slots())
    wanted = _by_device(tx.rollouts.wanted())
    return tuple(
        DeviceView(
            device,
            presence(device, now),
            tuple(slots.get(device.id, ())),
            tuple(wanted.get(device.id, ())),
        )
        for device in sorted(tx.devices.all(), key=lambda one: one.id)
        if matches(chosen, attributes(device))
    )


def show(tx: Transaction, device_id: str, now: float) -> DeviceView:
    """One device.

    Raises:
        NotFound: there is none of that id.
    """
    device = _get(tx, device_id)
    directive = tx.rollouts.directive(device_id)
    readings = tx.telemetry.resources(device_id)
    return DeviceView(
        device,
        presence(device, now),
        tuple(tx.devices.slots(device_id)),
        tuple(tx.rollouts.wanted(device_id)),
        0 if directive is None else directive.generation,
        readings[0] if readings else None,
        tx.telemetry.dropped(device_id),
    )


def explain_selector(tx: Transaction, selector: str, device_id: str) -> Explanation:
    """Why the selector matches the device or not.

    Raises:
        BadSelector: the selector can't be read.
        NotFound: there is no such device.
    """
    return explain(parse(selector), attributes(_get(tx, device_id)))


def tally_selector(tx: Transaction, selector: str) -> tuple[Tally, int]:
    """How many devices the selector and each of its parts matches, revoked ones left out.

    The number is of those that were revoked and would match.

    Raises:
        BadSelector: the selector can't be read.
    """
    chosen = parse(selector)
    devices = tx.devices.all()
    active = [seen for one in devices if (seen := seen_by_selectors(one)) is not None]
    revoked = [attributes(one) for one in devices if one.status is DeviceStatus.REVOKED]
    return tally(chosen, active), sum(matches(chosen, one) for one in revoked)


def label(
    tx: Transaction,
    device_id: str,
    actor: str,
    now: float,
    put: Mapping[str, str],
    remove: Iterable[str] = (),
) -> Device:
    """Sets and removes labels; returns the device as it is then. Rollouts must be planned anew.

    Raises:
        NotFound: there is no such device.
        InvalidInput: a label may not stand.
    """
    removed = tuple(remove)
    for key in removed:
        check_key(key)
    if both := sorted(set(put) & set(removed)):
        raise InvalidInput(f"label {both[0]!r}: can't be both set and removed")
    device = _get(tx, device_id)
    kept = {key: value for key, value in device.labels.items() if key not in removed}
    labelled = dataclasses.replace(device, labels=check_labels({**kept, **put}))
    if labelled == device:
        return device
    tx.devices.put(labelled)
    detail = {**{f"+{key}": value for key, value in put.items()}, **dict.fromkeys(removed, "-")}
    tx.audit.append(Entry(actor, "device.label", device_id, detail), int(now * 1000))
    log.info("device.labelled device=%s by=%s", device_id, actor)
    return labelled


def update_facts(tx: Transaction, device_id: str, payload: bytes) -> bool:
    """Takes a serialised ``muster.v1.DeviceFacts`` that the device published.

    Returns whether anything changed that a selector sees; then rollouts must be planned anew.

    Raises:
        NotFound: there is no such device.
        InvalidInput: the payload is no such message, or too large.
    """
    if len(payload) > MAX_FACTS_BYTES:
        raise TooLarge(f"facts: {len(payload)} bytes; {MAX_FACTS_BYTES} at most")
    try:
        facts = flatten(common_pb2.DeviceFacts.FromString(payload))
    except DecodeError as error:
        raise InvalidInput("facts: not a DeviceFacts message") from error
    device = _get(tx, device_id)
    if dict(device.facts) == facts:
        return False
    tx.devices.put(dataclasses.replace(device, facts=facts))
    return True


def _get(tx: Transaction, device_id: str) -> Device:
    device = tx.devices.get(device_id)
    if device is None:
        raise NotFound(f"no device {device_id!r}")
    return device


def _by_device(rows: Iterable[AnyRow]) -> Mapping[str, list[AnyRow]]:
    found: dict[str, list[AnyRow]] = {}
    for row in rows:
        found.setdefault(row.device, []).append(row)
    return found
