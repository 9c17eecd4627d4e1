"""How devices stand in a rollout: one by one, and grouped."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """What a device's part in a rollout has come to; ``account.py`` has the rules."""

    OK = "ok"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    WAITING = "waiting"
    DEFERRED = "deferred"
    AWAY = "away"
    REVERTED = "reverted"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Standing:
    """One device in one rollout.

    Attributes:
        doing: the install state that it last reported for the version; empty if none.
        code: why it failed, or what it waits for.
        detail: of the code; of a REVERTED device, what it was put back to.
        stage: the number of its stage.
        soaks_until: when it will have soaked, in Unix seconds, if nothing comes between: an estimate
            for people. 0 if it does not soak; what a device reports ends a soak.
    """

    device: str
    outcome: Outcome
    doing: str = ""
    code: str = ""
    detail: str = ""
    stage: int = 0
    soaks_until: float = 0.0


class Kind(NamedTuple):
    """What devices have in common that stand alike."""

    stage: int
    outcome: Outcome
    doing: str
    code: str
    soaks: bool

    @classmethod
    def of(cls, standing: Standing) -> "Kind":
        """The standing's."""
        return cls(
            standing.stage,
            standing.outcome,
            standing.doing,
            standing.code,
            standing.soaks_until > 0,
        )


class Census:
    """Which devices stand alike, kept as they change: what is counted of it costs no device a look."""

    def __init__(self, standings: Iterable[Standing] = ()) -> None:
        self._groups: dict[Kind, set[str]] = {}
        self.size = 0
        for standing in standings:
            self.add(standing)

    def __eq__(self, other: object) -> bool:
        """Whether the same devices stand alike."""
        return isinstance(other, Census) and self._groups == other._groups

    __hash__ = None  # type: ignore[assignment]

    def add(self, standing: Standing) -> None:
        """Counts the device, which was not counted."""
        self._groups.setdefault(Kind.of(standing), set()).add(standing.device)
        self.size += 1

    def remove(self, standing: Standing) -> None:
        """Counts it no more. It was counted as it is here."""
        kind = Kind.of(standing)
        self._groups[kind].remove(standing.device)
        if not self._groups[kind]:
            del self._groups[kind]
        self.size -= 1

    def with_changes(self, gone: Iterable[Standing], come: Iterable[Standing]) -> "Census":
        """One of its own; this one stays as it is."""
        changed = Census()
        changed._groups = {kind: set(devices) for kind, devices in self._groups.items()}
        changed.size = self.size
        for standing in gone:
            changed.remove(standing)
        for standing in come:
            changed.add(standing)
        return changed

    def groups(self) -> Iterator[tuple[Kind, AbstractSet[str]]]:
        """The kinds that there are, and their devices; valid until something is changed."""
        yield from self._groups.items()

    def count(self, outcome: Outcome) -> int:
        """How many devices stand so."""
        return sum(len(who) for kind, who in self._groups.items() if kind.outcome is outcome)
