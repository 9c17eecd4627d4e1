"""Rollouts and directives in memory."""

from collections.abc import Iterable, Sequence

from controller.errors import Conflict
from controller.rollout.rollout import Rollout, SignedDirective, Wanted
from controller.rollout.standing import Standing
from controller.store.rollout_tables import DIRECTIVES_KEPT
from simulations.memory_store.journal import Journal
from simulations.memory_store.noted import Noted


class MemoryRollouts:
    """``controller.store.store.Rollouts``."""

    def __init__(self, journal: Journal, noted: Noted) -> None:
        self._journal = journal
        self._noted = noted
        self._rollouts: dict[str, Rollout] = {}
        self._standings: dict[str, tuple[Standing, ...]] = {}
        self._wanted: dict[str, tuple[Wanted, ...]] = {}
        self._directives: dict[str, tuple[SignedDirective, ...]] = {}

    def get(self, rollout: str) -> Rollout | None:  # noqa: D102 - see the Protocol
        return self._rollouts.get(rollout)

    def all(self) -> Sequence[Rollout]:  # noqa: D102
        return sorted(
            self._rollouts.values(), key=lambda one: (one.created_at, one.id), reverse=True
        )

    def put(self, rollout: Rollout) -> None:  # noqa: D102
        self._journal.put(self._rollouts, rollout.id, rollout)

    def standings(self, rollout: str) -> Sequence[Standing]:  # noqa: D102
        return self._standings.get(rollout, ())

    def put_standings(self, rollout: str, standings: Sequence[Standing]) -> None:  # noqa: D102
        kept = tuple(sorted(standings, key=lambda one: one.device))
        self._journal.put(self._standings, rollout, kept)

    def wanted(self, device: str | None = None) -> Sequence[Wanted]:  # noqa: D102
        if device is not None:
            return self._wanted.get(device, ())
        return [row for one in sorted(self._wanted) for row in self._wanted[one]]

    def put_wanted(self, wanted: Wanted) -> None:  # noqa: D102
        others = self._others(wanted.device, wanted.model, wanted.slot)
        rows = tuple(sorted((*others, wanted), key=lambda one: (one.model, one.slot)))
        self._journal.put(self._wanted, wanted.device, rows)
        self._noted.note(wanted.device)

    def remove_wanted(self, device: str, model: str, slot: str) -> None:  # noqa: D102
        others = self._others(device, model, slot)
        if len(others) < len(self._wanted.get(device, ())):
            self._journal.put(self._wanted, device, others)
            self._noted.note(device)

    def _others(self, device: str, model: str, slot: str) -> tuple[Wanted, ...]:
        """What is wanted of the device in its other slots."""
        rows = self._wanted.get(device, ())
        return tuple(one for one in rows if (one.model, one.slot) != (model, slot))

    def directive(self, device: str) -> SignedDirective | None:  # noqa: D102
        known = self._directives.get(device)
        return known[-1] if known else None

    def newest_directives(self) -> Iterable[SignedDirective]:  # noqa: D102
        return [known[-1] for known in self._directives.values()]

    def put_directive(self, directive: SignedDirective) -> None:  # noqa: D102
        newest = self.directive(directive.device)
        if newest is not None and directive.generation <= newest.generation:
            raise Conflict(
                f"generation {directive.generation} for device {directive.device!r}, "
                f"which has {newest.generation}"
            )
        kept = (*self._directives.get(directive.device, ()), directive)[-DIRECTIVES_KEPT:]
        self._journal.put(self._directives, directive.device, kept)
        self._noted.note(directive.device)

    def directives(self, device: str) -> Sequence[SignedDirective]:  # noqa: D102
        return self._directives.get(device, ())[::-1]
