"""Stages and their members in memory."""

from collections.abc import Iterable, Sequence

from controller.rollout.rollout import Member, StageRecord
from simulations.memory_store.journal import Journal
from simulations.memory_store.noted import Noted


class MemoryStages:
    """``controller.store.store.Stages``."""

    def __init__(self, journal: Journal, noted: Noted) -> None:
        self._journal = journal
        self._noted = noted
        self._stages: dict[str, dict[int, StageRecord]] = {}
        self._members: dict[str, dict[str, Member]] = {}

    def all(self, rollout: str | None = None) -> Sequence[StageRecord]:  # noqa: D102
        of = self._stages if rollout is None else [rollout]
        return [one for id_ in sorted(of) for _, one in sorted(self._stages.get(id_, {}).items())]

    def put(self, stages: Iterable[StageRecord]) -> None:  # noqa: D102
        for one in stages:
            self._journal.put(self._stages.setdefault(one.rollout, {}), one.number, one)

    def members(self, rollout: str | None = None) -> Sequence[Member]:  # noqa: D102
        of = self._members if rollout is None else [rollout]
        return [one for id_ in sorted(of) for _, one in sorted(self._members.get(id_, {}).items())]

    def members_of(self, device: str) -> Sequence[Member]:
        """The device's, of all rollouts."""
        return [of[device] for _, of in sorted(self._members.items()) if device in of]

    def put_members(self, members: Iterable[Member]) -> None:  # noqa: D102
        for one in members:
            self._journal.put(self._members.setdefault(one.rollout, {}), one.device, one)
            self._noted.note(one.device)

    def remove_members(self, rollout: str) -> None:  # noqa: D102
        of = self._members.get(rollout, {})
        for device in tuple(of):
            self._journal.remove(of, device)
            self._noted.note(device)
