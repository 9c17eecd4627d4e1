"""In which state rollouts and their stages were, when and why: what a report draws as bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Span:
    """A state from ``start`` to ``end``, with its reason."""

    start: float
    end: float
    state: str
    reason: str = ""


@dataclass(slots=True)
class Track:
    """Lanes of spans; the last of each still goes on."""

    _lanes: dict[str, list[Span]] = field(default_factory=dict)

    def note(self, at: float, lane: str, state: str, reason: str = "") -> bool:
        """It is in this state from now on, for this reason; whether either is new."""
        spans = self._lanes.setdefault(lane, [])
        if spans and spans[-1].state == state and reason in {"", spans[-1].reason}:
            return False
        if spans:
            spans[-1] = replace(spans[-1], end=at)
        spans.append(Span(at, at, state, reason))
        return True

    def state(self, lane: str) -> str:
        """In which it is now; empty if it was never noted."""
        spans = self._lanes.get(lane)
        return spans[-1].state if spans else ""

    def lanes(self, end: float) -> Mapping[str, Sequence[Span]]:
        """All lanes, as they are until then."""
        return {
            lane: [*spans[:-1], replace(spans[-1], end=max(end, spans[-1].start))]
            for lane, spans in self._lanes.items()
        }
