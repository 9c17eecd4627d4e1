"""What devices have told in all, in memory."""

from bisect import bisect_right
from collections.abc import Mapping

from controller.errors import Conflict
from controller.monitor.estimator import Estimator
from controller.monitor.total import Sums, Total
from simulations.memory_store.journal import Journal
from simulations.memory_store.telemetry import Told


class MemoryTotals:
    """``controller.store.store.Totals``."""

    def __init__(self, journal: Journal, told: Told) -> None:
        self._journal = journal
        self._told = told
        self._estimators: dict[tuple[str, int], Estimator] = {}

    def estimator(self, model: str, version: int) -> Estimator | None:  # noqa: D102 - see the Protocol
        return self._estimators.get((model, version))

    def put_estimator(self, model: str, version: int, estimator: Estimator) -> None:  # noqa: D102
        self._journal.put(self._estimators, (model, version), estimator)

    def last(self, device: str, model: str, version: int) -> Total | None:  # noqa: D102
        known = self._told.totals.get((model, version, device))
        return known[-1] if known else None

    def add(self, total: Total) -> None:  # noqa: D102
        known = self._told.totals.setdefault((total.model, total.version, total.device), [])
        if known and known[-1].ended_ms >= total.ended_ms:
            raise Conflict(f"a total of device {total.device!r} that ends no earlier is there")
        self._journal.append(known, total)

    def since(  # noqa: D102
        self, model: str, version: int, ends: Mapping[str, int]
    ) -> Mapping[str, Sums]:
        found = {}
        for device, end in ends.items():
            known = self._told.totals.get((model, version, device), [])
            before = bisect_right(known, end, key=lambda one: one.ended_ms)
            if before < len(known):
                base = known[before - 1].sums if before else Sums()
                found[device] = known[-1].sums - base
        return found
