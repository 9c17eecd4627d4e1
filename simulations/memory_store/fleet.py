"""Devices, join tokens and operators in memory."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from controller.access.operator import Operator
from controller.enrolment.token import JoinToken
from controller.errors import Conflict
from controller.fleet.device import Device, SlotState
from controller.fleet.presence import seen, stays
from simulations.memory_store.journal import Journal
from simulations.memory_store.noted import Noted


class MemoryDevices:
    """``controller.store.store.Devices``."""

    def __init__(self, journal: Journal, noted: Noted) -> None:
        self._journal = journal
        self._noted = noted
        self._devices: dict[str, Device] = {}
        self._slots: dict[str, tuple[SlotState, ...]] = {}
        self._texts: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}

    def get(self, device: str) -> Device | None:  # noqa: D102 - see the Protocol
        return self._devices.get(device)

    def all(self) -> Sequence[Device]:  # noqa: D102
        return sorted(self._devices.values(), key=lambda device: device.id)

    def put(self, device: Device) -> None:  # noqa: D102
        known = self._devices.get(device.id)
        if known is None or not _are_seen_alike(known, device):
            labels, facts = self._shared(device.labels), self._shared(device.facts)
            device = replace(device, labels=labels, facts=facts)
        self._journal.put(self._devices, device.id, device)
        self._noted.note(device.id)

    def touch(self, device: str, last_seen: float, *, connected: bool) -> None:  # noqa: D102
        known = self._devices.get(device)
        if known is not None:
            noted = seen(known, last_seen, connected=connected)
            self._journal.put(self._devices, device, noted)
            if not stays(known, noted):
                self._noted.note(device)

    def disconnect_all(self, spare: Collection[str] = ()) -> None:  # noqa: D102
        linked = [one for one in self._devices.values() if one.connected]
        for device in [one for one in linked if one.id not in spare]:
            gone = seen(device, device.last_seen, connected=False)
            self._journal.put(self._devices, device.id, gone)
            self._noted.note(device.id)

    def slots(self, device: str | None = None) -> Sequence[SlotState]:  # noqa: D102
        if device is not None:
            return self._slots.get(device, ())
        return [slot for one in sorted(self._slots) for slot in self._slots[one]]

    def replace_slots(self, device: str, slots: Iterable[SlotState]) -> None:  # noqa: D102
        kept = tuple(slots)
        if device not in self._devices and kept:
            raise Conflict(f"slots of device {device!r}, which is not enrolled")
        if [slot for slot in kept if slot.device != device]:
            raise Conflict(f"slots of another device among those of {device!r}")
        if len(kept) > 1:
            kept = tuple(sorted(kept, key=_slot_order))
            if any(_slot_order(one) == _slot_order(next_) for one, next_ in pairwise(kept)):
                raise Conflict(f"a slot of device {device!r} is there twice")
        self._journal.put(self._slots, device, kept)
        self._noted.note(device)

    def _shared(self, texts: Mapping[str, str]) -> Mapping[str, str]:
        """A copy, which all devices share that have the same."""
        return self._texts.setdefault(tuple(sorted(texts.items())), dict(texts))


def _are_seen_alike(known: Device, device: Device) -> bool:
    """Whether the device still has the very labels and facts that are kept of it."""
    return (
        device.labels is known.labels
        and device.facts is known.facts
        and device.status is known.status
    )


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
