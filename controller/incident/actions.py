"""What is known of incidents, and what people ask of them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.monitor.finding import Verdict
from controller.audit import Entry, Record
from controller.errors import Conflict, NotFound
from controller.incident.incident import AT_END, EntryKind, Incident, IncidentState, StoryEntry
from controller.incident.story import (
    CandidateFacts,
    Deciding,
    Facts,
    RolloutFacts,
    Watched,
    advanced,
    decides,
)
from controller.monitor.actions import DriftReport, drift_report
from controller.registry.version import Change
from controller.rollout.rollout import StageState
from controller.store.blob_store import BlobStore
from controller.store.store import Store, Transaction

_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident with its story, in order."""

    incident: Incident
    story: Sequence[StoryEntry]


def show(tx: Transaction, incident: str) -> IncidentView:
    """The incident and its story.

    Raises:
        NotFound: there is no such incident.
    """
    return IncidentView(_incident(tx, incident), tx.incidents.story(incident))


def close(tx: Transaction, incident: str, reason: str, actor: str, now: float) -> Incident:
    """Ends an incident that nobody will do anything about.

    Raises:
        NotFound: there is no such incident.
        Conflict: it has ended.
    """
    found = _incident(tx, incident)
    if found.state in AT_END:
        raise Conflict(f"{incident} is {found.state} already")
    at_ms = int(now * 1000)
    closed = dataclasses.replace(found, state=IncidentState.CLOSED, ended_ms=at_ms, closed_by=actor)
    text = f"closed by {actor}" + (f": {reason}" if reason else "")
    subject = f"{found.model}/{found.version}"
    tx.incidents.put(closed)
    tx.incidents.tell(incident, [StoryEntry("end", at_ms, EntryKind.END, subject, text)])
    tx.audit.append(Entry(actor, "incident.close", incident, {"reason": reason}), at_ms)
    return closed


def bring_up_to_date(store: Store, blobs: BlobStore, incident: Incident, now_ms: int) -> Incident:
    """Writes down where the incident stands and what has happened to it; blocks.

    Raises:
        StoreError: nothing was written; the next turn tries again.
    """
    facts = gathered(store, blobs, incident, now_ms)
    after, entries = advanced(incident, facts)
    with store.read() as tx:
        told = {one.key for one in tx.incidents.story(incident.id)}
    fresh = [one for one in entries if one.key not in told]
    if after == incident and not fresh:
        return incident
    with store.begin() as tx:
        if tx.incidents.get(incident.id) != incident:
            return incident  # somebody has closed it meanwhile, or another controller was here
        tx.incidents.put(after)
        tx.incidents.tell(incident.id, fresh)
    return after


def gathered(store: Store, blobs: BlobStore, incident: Incident, now_ms: int) -> Facts:
    """All that is known of the incident now and decides where it stands; blocks."""
    with store.read() as tx:
        run = tx.runs.get(incident.run) if incident.run else None
        phases = tx.runs.phases(run.id) if run else ()
        version = run.candidate if run and run.candidate else incident.candidate
        candidate = None if version is None else _candidate(tx, incident, version)
        rollout = None if version is None else _rollout(tx, incident.model, version)
    facts = Facts(now_ms, None, run, phases, candidate, rollout)
    model = incident.model
    match decides(facts):
        case Deciding.BEFORE:
            before = watched(store, blobs, model, incident.version, incident.opened_ms)
            return dataclasses.replace(facts, before=before)
        case Deciding.AFTER if rollout is not None:
            after = watched(store, blobs, model, version, rollout.created_ms)
            return dataclasses.replace(facts, after=after)
    return facts


def watched(
    store: Store, blobs: BlobStore, model: str, version: int | None, since_ms: int = 0
) -> Watched | None:
    """What the monitors have said of a version since then; None if nothing. Blocks."""
    try:
        report = drift_report(store, blobs, model, version=version, since_ms=since_ms)
    except NotFound:
        return None
    return watched_of(report)


def watched_of(report: DriftReport) -> Watched:
    """A drift report as incidents see it."""
    verdicts = [row.verdict for row in report.devices]
    return Watched(
        version=report.version,
        verdict=report.verdict.value,
        moved=verdicts.count(Verdict.DRIFT),
        judged=len(verdicts) - verdicts.count(Verdict.INSUFFICIENT_DATA),
        rows=report.rows,
        ended_ms=report.last_ended_ms,
        sentences=tuple(finding.detail for finding in report.findings[:3]),
    )


def _incident(tx: Transaction, incident: str) -> Incident:
    found = tx.incidents.get(incident)
    if found is None:
        raise NotFound(f"no incident {incident[:100]!r}", "`muster incident list` shows them.")
    return found


def _candidate(tx: Transaction, incident: Incident, version: int) -> CandidateFacts | None:
    model = incident.model
    found, of = tx.registry.version(model, version), tx.registry.model(model)
    if found is None or of is None:
        return None
    signed_ms: dict[str, int] = {}
    published_ms = 0
    for record in _audited(tx, f"{model}/{version}", incident.opened_ms):
        if record.entry.detail.get("change") != Change.ADD:
            continue
        if record.entry.action == "version.sign":
            signed_ms[record.entry.detail["approver"]] = record.at
        elif record.entry.action == "version.publish":
            published_ms = record.at
    made_ms = int(found.registered_at * 1000)
    return CandidateFacts(version, found.state, made_ms, of.threshold, signed_ms, published_ms)


def _audited(tx: Transaction, subject: str, since_ms: int) -> Iterator[Record]:
    """What the audit record has of it since then, the newest first."""
    last = tx.audit.last()
    after = last.sequence if last else 0
    while after > 0:
        after = max(after - _PAGE, 0)
        for record in reversed(tx.audit.records(after, _PAGE)):
            if record.at < since_ms:
                return
            if record.entry.subject == subject:
                yield record


def _rollout(tx: Transaction, model: str, version: int) -> RolloutFacts | None:
    found = next(
        (one for one in tx.rollouts.all() if (one.model, one.version) == (model, version)), None
    )
    if found is None:
        return None
    return RolloutFacts(
        id=found.id,
        state=found.state,
        created_ms=int(found.created_at * 1000),
        ended_ms=int(found.ended_at * 1000),
        reason=found.reason.partition("\n")[0],
        stages_passed=_passed(tx, found.id),
    )


def _passed(tx: Transaction, rollout: str) -> Mapping[str, int]:
    found = tx.rollouts.get(rollout)
    stages = found.policy.stages if found else ()
    return {
        stages[one.number].name: int(one.passed_at * 1000)
        for one in tx.stages.all(rollout)
        if one.state is StageState.PASSED and one.number < len(stages)
    }
