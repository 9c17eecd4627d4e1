"""An incident: a model's data have changed on the fleet, until its monitors say that all is well.

Rules:

1. A model has one open incident at a time.
2. Where it stands follows from what is there now (``state_of``): a controller that was away catches
   up, and nothing is told twice.
3. Its story only grows: each entry has a key, and what is told under a key stays.
4. It ends when a version that came of it runs everywhere and the monitors say that its data are as
   in its reference, when the world went back by itself, or when somebody closes it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class IncidentState(StrEnum):
    """Where it stands."""

    OPEN = "open"  # found, and nothing is done about it yet
    RETRAINING = "retraining"  # a run is at work
    DECIDING = "deciding"  # a candidate waits for its approvers, or for somebody to roll it out
    ROLLING_OUT = "rolling-out"
    WATCHING = "watching"  # the candidate runs everywhere; its monitors have yet to speak
    RECOVERED = "recovered"
    CLOSED = "closed"  # by a person


AT_END: Final = frozenset({IncidentState.RECOVERED, IncidentState.CLOSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One incident. Times are Unix milliseconds; 0 where there is none.

    Attributes:
        id: ``digits-i1``: the incidents of a model are numbered.
        model: whose data have changed.
        version: which the fleet ran when it was found.
        run: the run that was proposed or started for it; empty while there is none.
        candidate: the version that came of the run.
        rollout: the newest of the candidate.
        closed_by: who closed it, if a person did.
    """

    id: str
    model: str
    version: int
    state: IncidentState
    opened_ms: int
    ended_ms: int = 0
    run: str = ""
    candidate: int | None = None
    rollout: str = ""
    closed_by: str = ""


class EntryKind(StrEnum):
    """What an entry of the story tells of."""

    FINDING = "finding"
    RUN = "run"
    ROUND = "round"
    CANDIDATE = "candidate"
    APPROVAL = "approval"
    ROLLOUT = "rollout"
    END = "end"


@dataclass(frozen=True, slots=True)
class StoryEntry:
    """One line of an incident's story.

    Attributes:
        key: what makes it one: an entry of the same key is the same entry.
        at_ms: when it happened, as far as is known.
        kind: what it tells of.
        subject: the run, version or rollout; for a finding the version.
        sentence: for a person.
    """

    key: str
    at_ms: int
    kind: EntryKind
    subject: str
    sentence: str
