"""Devices, join tokens and operators in memory."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from controller.access.operator import Operator
from controller.enrolment.token import JoinToken
from controller.errors import Conflict
from controller.fleet.attributes import seen_by_selectors
from controller.fleet.device import Device, SlotState
from controller.fleet.presence import seen
from simulations.memory_store.journal import Journal


class MemoryDevices:
    """``controller.store.store.Devices``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._devices: dict[str, Device] = {}
        self._slots: dict[str, tuple[SlotState, ...]] = {}
        self._changed: list[str] = []  # which device changed last; how many have is the revision

    def get(self, device: str) -> Device | None:  # noqa: D102 - see the Protocol
        return self._devices.get(device)

    def all(self) -> Sequence[Device]:  # noqa: D102
        return sorted(self._devices.values(), key=lambda device: device.id)

    def put(self, device: Device) -> None:  # noqa: D102
        kept = replace(device, labels=dict(device.labels), facts=dict(device.facts))
        known = self._devices.get(device.id)
        if known is None or seen_by_selectors(known) != seen_by_selectors(kept):
            self._journal.append(self._changed, device.id)
        self._journal.put(self._devices, device.id, kept)

    def changed_since(self, revision: int) -> tuple[Sequence[Device], int]:  # noqa: D102
        last_first = dict.fromkeys(reversed(self._changed[revision:]))
        return [self._devices[one] for one in reversed(last_first)], len(self._changed)

    def touch(self, device: str, last_seen: float, *, connected: bool) -> None:  # noqa: D102
        known = self._devices.get(device)
        if known is not None:
            noted = seen(known, last_seen, connected=connected)
            self._journal.put(self._devices, device, noted)

    def disconnect_all(self, spare: Collection[str] = ()) -> None:  # noqa: D102
        linked = [one for one in self._devices.values() if one.connected]
        for device in [one for one in linked if one.id not in spare]:
            gone = seen(device, device.last_seen, connected=False)
            self._journal.put(self._devices, device.id, gone)

    def slots(self, device: str | None = None) -> Sequence[SlotState]:  # noqa: D102
        found = (
            self._slots.get(device, ())
            if device is not None
            else [slot for slots in self._slots.values() for slot in slots]
        )
        return sorted(found, key=_slot_order)

    def replace_slots(self, device: str, slots: Iterable[SlotState]) -> None:  # noqa: D102
        kept = tuple(slots)
        if device not in self._devices and kept:
            raise Conflict(f"slots of device {device!r}, which is not enrolled")
        if {slot.device for slot in kept} - {device}:
            raise Conflict(f"slots of another device among those of {device!r}")
        if len({_slot_order(slot) for slot in kept}) != len(kept):
            raise Conflict(f"a slot of device {device!r} is there twice")
        self._journal.put(self._slots, device, kept)


def _slot_order(slot: SlotState) -> tuple[str, str, str, bool]:
    return (slot.device, slot.model, slot.slot, not slot.running)


class MemoryTokens:
    """``controller.store.store.Tokens``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tokens: dict[str, JoinToken] = {}

    def get(self, token: str) -> JoinToken | None:  # noqa: D102
        return self._tokens.get(token)

    def all(self) -> Sequence[JoinToken]:  # noqa: D102
        return sorted(self._tokens.values(), key=lambda token: (token.created_at, token.id))

    def put(self, token: JoinToken) -> None:  # noqa: D102
        self._journal.put(self._tokens, token.id, replace(token, labels=dict(token.labels)))


class MemoryOperators:
    """``controller.store.store.Operators``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._operators: dict[str, Operator] = {}

    def by_token(self, token_sha256: str) -> Operator | None:  # noqa: D102
        for operator in self._operators.values():
            if operator.token_sha256 == token_sha256:
                return operator
        return None

    def get(self, name: str) -> Operator | None:  # noqa: D102
        return self._operators.get(name)

    def all(self) -> Sequence[Operator]:  # noqa: D102
        return sorted(self._operators.values(), key=lambda operator: operator.name)

    def put(self, operator: Operator) -> None:  # noqa: D102
        holder = self.by_token(operator.token_sha256)
        if holder is not None and holder.name != operator.name:
            raise Conflict(f"operator {holder.name!r} has this token already")
        self._journal.put(self._operators, operator.name, operator)
