"""Slots and installs in memory and in the store: one writer, who writes before it acts."""

from collections.abc import Iterable, Mapping, Sequence

from agent.install import soak
from agent.install.change import Change
from agent.install.edit import Edit, changes_of, is_quarantined, is_redeemed, quarantine_of
from agent.install.machine import State
from agent.install.record import Install, Slot, SlotKey
from agent.store.device_store import DeviceStore


class Ledger:
    """The slots and installs of the device. Its mappings are replaced, never changed."""

    def __init__(self, store: DeviceStore) -> None:
        self._store = store
        self.slots: Mapping[SlotKey, Slot] = {}
        self.installs: Mapping[SlotKey, Install] = {}

    def load(self) -> None:
        """Reads what is durable."""
        self.slots = {slot.key: slot for slot in self._store.installs.slots()}
        self.installs = {one.key: one for one in self._store.installs.installs()}

    def write(self, edit: Edit, now: float) -> Sequence[Change]:
        """Makes the edit durable, all of it or nothing; returns what there is to tell.

        Raises:
            DiskFull, StoreError: nothing was changed.
        """
        slots, installs = dict(self.slots), dict(self.installs)
        changes = [*changes_of(edit, installs), *soak.changes_of(edit.slots, slots)]
        with self._store.transaction():
            for key in edit.forgotten:
                self._store.installs.remove_slot(*key)
                self._store.installs.remove_install(*key)
                slots.pop(key, None)
                installs.pop(key, None)
            for slot in edit.slots:
                self._save_slot(slot)
                slots[slot.key] = slot
            for install in edit.installs:
                self._save_install(installs.get(install.key), install, now)
                installs[install.key] = install
        self.slots = {key: slot for key, slot in slots.items() if not is_empty(slot)}
        self.installs = installs
        return changes

    def _save_slot(self, slot: Slot) -> None:
        if is_empty(slot):
            self._store.installs.remove_slot(*slot.key)
        else:
            self._store.installs.save_slot(slot)

    def _save_install(self, before: Install | None, install: Install, now: float) -> None:
        self._store.installs.save_install(install)
        if is_quarantined(before, install):
            self._store.installs.quarantine(quarantine_of(install, now))
        elif install.state is State.COMMITTED:
            kept = self._store.installs.quarantined(install.sha256)
            if is_redeemed(before, install, kept):
                self._store.installs.lift_quarantine(install.sha256)


def is_empty(slot: Slot) -> bool:
    """Whether the slot points at nothing."""
    return slot.active is None and slot.committed is None


def deployed_manifests(slots: Iterable[Slot]) -> frozenset[str]:
    """Digests of the manifests of what runs or is fallen back to."""
    deployed = (one for slot in slots for one in (slot.active, slot.committed))
    return frozenset(one.manifest_sha256 for one in deployed if one is not None)


def tried_manifests(installs: Iterable[Install]) -> frozenset[str]:
    """Digests of the manifests of what is being tried; one may not be here yet."""
    over = {State.FAILED, State.IDLE}
    return frozenset(install.sha256 for install in installs if install.state not in over)
