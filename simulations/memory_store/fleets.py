"""Fleets' files in memory."""

from collections.abc import Sequence

from controller.fleet_config.applied import AppliedFleet
from simulations.memory_store.journal import Journal


class MemoryFleets:
    """``controller.store.store.Fleets``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._fleets: dict[str, AppliedFleet] = {}

    def get(self, fleet: str) -> AppliedFleet | None:  # noqa: D102 - see the Protocol
        return self._fleets.get(fleet)

    def all(self) -> Sequence[AppliedFleet]:  # noqa: D102
        return [self._fleets[name] for name in sorted(self._fleets)]

    def put(self, applied: AppliedFleet) -> None:  # noqa: D102
        self._journal.put(self._fleets, applied.name, applied)
