"""Leases in memory."""

from controller.lease import Lease, asked
from simulations.memory_store.journal import Journal


class MemoryLeases:
    """``controller.store.store.Leases``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._leases: dict[str, Lease] = {}

    def acquire(self, name: str, holder: str, now: float, seconds: float) -> bool:  # noqa: D102 - see the Protocol
        stands = asked(self._leases.get(name), Lease(name, holder, now, now + seconds))
        self._journal.put(self._leases, name, stands)
        return stands.holder == holder

    def holder(self, name: str, now: float) -> str | None:  # noqa: D102
        known = self._leases.get(name)
        return None if known is None or now >= known.until else known.holder

    def release(self, name: str, holder: str) -> None:  # noqa: D102
        known = self._leases.get(name)
        if known is not None and known.holder == holder:
            self._journal.remove(self._leases, name)
