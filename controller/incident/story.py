"""Where an incident stands, and what there is to tell of it, by everything that is known now. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from controller.federated.exchange import PhaseRecord
from controller.federated.run import Run, RunState
from controller.federated.task import Phase
from controller.incident.incident import (
    AT_END,
    EntryKind,
    Incident,
    IncidentState,
    StoryEntry,
)
from controller.registry.version import State as VersionState
from controller.rollout.rollout import State as RolloutState

_AT_WORK: Final = frozenset({RunState.RUNNING, RunState.STOPPING})
_LOST: Final = frozenset({VersionState.REJECTED, VersionState.RECALLED})
_GIVEN_UP: Final = frozenset(
    {RolloutState.ABORTED, RolloutState.ROLLED_BACK, RolloutState.SUPERSEDED}
)


@dataclass(frozen=True, slots=True)
class Watched:
    """What the monitors say of one version over the fleet.

    Attributes:
        version: which.
        verdict: of the merged data: "ok", "drift", "bad_data" or "insufficient_data".
        moved: devices whose own data have moved.
        judged: devices that have told enough.
        rows: predictions that were merged.
        ended_ms: end of the newest window.
        sentences: what changed, for a person.
        running: devices that say that the version answers on them; 0 where that was not asked.
    """

    version: int
    verdict: str
    moved: int
    judged: int
    rows: int
    ended_ms: int
    sentences: tuple[str, ...] = ()
    running: int = 0


@dataclass(frozen=True, slots=True)
class CandidateFacts:
    """The version that came of the run.

    Attributes:
        signed_ms: by name of the approver, when they signed it.
        threshold: so many must.
        published_ms: when enough had; 0 if not yet.
    """

    version: int
    state: VersionState
    registered_ms: int
    threshold: int
    signed_ms: Mapping[str, int]
    published_ms: int = 0


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """The newest rollout of the candidate."""

    id: str
    state: RolloutState
    created_ms: int
    ended_ms: int
    reason: str = ""
    stages_passed: Mapping[str, int] | None = None
    """By name of the stage: when it passed."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of an incident at one moment; ``before`` and ``after`` if ``decides`` asks for it."""

    now_ms: int
    before: Watched | None = None
    run: Run | None = None
    phases: Sequence[PhaseRecord] = ()
    candidate: CandidateFacts | None = None
    rollout: RolloutFacts | None = None
    after: Watched | None = None


class Deciding(StrEnum):
    """Whose data decide where an incident stands: to judge those of a large fleet takes a while."""

    BEFORE = "before"  # of the version that the fleet ran when it was found
    AFTER = "after"  # of the candidate
    NEITHER = "neither"


def decides(facts: Facts) -> Deciding:
    """What must be judged, by everything else that is known."""
    if not _stands(facts.candidate):
        at_work = facts.run is not None and facts.run.state in _AT_WORK
        return Deciding.NEITHER if at_work else Deciding.BEFORE
    everywhere = facts.rollout is not None and facts.rollout.state is RolloutState.SUCCEEDED
    return Deciding.AFTER if everywhere else Deciding.NEITHER


def state_of(facts: Facts) -> IncidentState:
    """Where an incident stands that nobody has closed."""
    match decides(facts):
        case Deciding.BEFORE:
            went_back = facts.before is not None and facts.before.verdict == "ok"
            return IncidentState.RECOVERED if went_back else IncidentState.OPEN  # by itself
        case Deciding.AFTER:
            recovered = facts.after is not None and facts.after.verdict == "ok"
            return IncidentState.RECOVERED if recovered else IncidentState.WATCHING
    if not _stands(facts.candidate):
        return IncidentState.RETRAINING
    if facts.rollout is None or facts.rollout.state in _GIVEN_UP:
        return IncidentState.DECIDING
    return IncidentState.ROLLING_OUT


def _stands(candidate: CandidateFacts | None) -> bool:
    return candidate is not None and candidate.state not in _LOST


def advanced(incident: Incident, facts: Facts) -> tuple[Incident, tuple[StoryEntry, ...]]:
    """The incident as it stands now, and all there is to tell of it, in order.

    What was told before under the same key stays as it was. One that is at its end stays there.
    """
    if incident.state in AT_END:
        return incident, ()
    state = state_of(facts)
    ended = facts.now_ms if state in AT_END else 0
    now = replace(
        incident,
        state=state,
        ended_ms=ended,
        run=facts.run.id if facts.run else incident.run,
        candidate=facts.candidate.version if facts.candidate else incident.candidate,
        rollout=facts.rollout.id if facts.rollout else incident.rollout,
    )
    entries = [*_of_run(facts), *_of_candidate(now, facts), *_of_rollout(now, facts)]
    watched = facts.after if _stands(facts.candidate) else facts.before
    if state is IncidentState.RECOVERED and watched is not None:
        # What was read after that moment may have happened after it; the end is the last of all.
        latest_ms = max([facts.now_ms, *(one.at_ms for one in entries)])
        entries.append(_recovered(now, watched, latest_ms))
    return now, tuple(sorted(entries, key=lambda one: one.at_ms))


def found(
    incident: Incident, watched: Watched, besides: Sequence[str] = ()
) -> tuple[StoryEntry, ...]:
    """The first entries of the story: what was found, and what there is to say besides."""
    subject = f"{incident.model}/{incident.version}"
    share = f"{watched.moved} of {watched.judged} devices see data unlike the reference"
    said = (share, *watched.sentences, *besides)
    return tuple(
        StoryEntry(f"finding-{number}", incident.opened_ms, EntryKind.FINDING, subject, sentence)
        for number, sentence in enumerate(said)
    )


def _of_run(facts: Facts) -> Iterator[StoryEntry]:
    run = facts.run
    if run is None:
        return
    key = f"run-{run.id}"
    by = "" if run.reasons else f" by {run.created_by}"
    if run.reasons:
        text = f"proposed by {run.created_by}: {'; '.join(run.reasons)}"
        yield _entry(key, run.created_ms, EntryKind.RUN, run.id, text)
    if run.started_ms:
        text = f"started{by}: {run.rounds} rounds over {run.model}/{run.version}"
        yield _entry(f"{key}-started", run.started_ms, EntryKind.RUN, run.id, text)
    for phase in facts.phases:
        if phase.phase is Phase.TRAIN:
            yield _entry(
                f"{key}-step-{phase.step}", phase.ended_ms, EntryKind.ROUND, run.id, _round(phase)
            )
    if run.state in {RunState.FINISHED, RunState.FAILED, RunState.STOPPED}:
        text = f"{run.state} after {run.round} rounds" + (f": {run.error}" if run.error else "")
        yield _entry(f"{key}-{run.state}", run.ended_ms, EntryKind.RUN, run.id, text)


def _round(phase: PhaseRecord) -> str:
    lost = [
        f"{count} {what}"
        for what, count in (
            ("declined", phase.declined),
            ("refused", phase.refused),
            ("silent", phase.silent),
        )
        if count
    ]
    codes = ", ".join(f"{code} {count}" for code, count in sorted(phase.reasons.items()))
    rest = f"; {', '.join(lost)}" + (f" ({codes})" if codes else "") if lost else ""
    return f"round {phase.round}: {phase.admitted} of {phase.selected} devices counted{rest}"


def _of_candidate(incident: Incident, facts: Facts) -> Iterator[StoryEntry]:
    candidate = facts.candidate
    if candidate is None:
        return
    subject = f"{incident.model}/{candidate.version}"
    key = f"candidate-{candidate.version}"
    made = f"made of {incident.model}/{incident.version} by {incident.run}"
    yield _entry(key, candidate.registered_ms, EntryKind.CANDIDATE, subject, made)
    in_order = sorted(candidate.signed_ms.items(), key=lambda one: (one[1], one[0]))
    for number, (name, signed_ms) in enumerate(in_order, 1):
        text = f"signed by {name}: {number} of {candidate.threshold}"
        yield _entry(f"{key}-by-{name}", signed_ms, EntryKind.APPROVAL, subject, text)
    if candidate.published_ms:
        text = "published: devices may run it"
        at_ms = candidate.published_ms
        yield _entry(f"{key}-published", at_ms, EntryKind.APPROVAL, subject, text)
    if candidate.state in _LOST:
        text = f"is {candidate.state}"
        yield _entry(f"{key}-{candidate.state}", facts.now_ms, EntryKind.CANDIDATE, subject, text)


def _of_rollout(incident: Incident, facts: Facts) -> Iterator[StoryEntry]:
    rollout = facts.rollout
    if rollout is None:
        return
    key = f"rollout-{rollout.id}"
    text = f"{incident.model}/{incident.candidate} goes out"
    yield _entry(key, rollout.created_ms, EntryKind.ROLLOUT, rollout.id, text)
    for name, passed_ms in (rollout.stages_passed or {}).items():
        text = f"stage {name} has passed"
        yield _entry(f"{key}-stage-{name}", passed_ms, EntryKind.ROLLOUT, rollout.id, text)
    if rollout.ended_ms:
        text = f"{rollout.state}: {rollout.reason}" if rollout.reason else str(rollout.state)
        yield _entry(f"{key}-ended", rollout.ended_ms, EntryKind.ROLLOUT, rollout.id, text)


def _recovered(incident: Incident, watched: Watched, now_ms: int) -> StoryEntry:
    subject = f"{incident.model}/{watched.version}"
    text = (
        f"recovered: the data of {watched.judged} devices together ({watched.rows:,} predictions) "
        f"are as in the reference of {subject}"
    )
    return _entry("end", now_ms, EntryKind.END, subject, text)


def _entry(key: str, at_ms: int, kind: EntryKind, subject: str, sentence: str) -> StoryEntry:
    return StoryEntry(key, at_ms, kind, subject, sentence)
