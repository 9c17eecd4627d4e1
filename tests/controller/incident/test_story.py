from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controller.federated.exchange import PhaseRecord
from controller.federated.run import Run, RunState
from controller.federated.task import Phase
from controller.incident.incident import AT_END, EntryKind, Incident, IncidentState
from controller.incident.story import (
    CandidateFacts,
    Deciding,
    Facts,
    RolloutFacts,
    Watched,
    advanced,
    decides,
    found,
    state_of,
)
from controller.registry.version import State as VersionState
from controller.rollout.rollout import State as RolloutState

OPENED = 1_000
INCIDENT = Incident(
    id="digits-i1", model="digits", version=1, state=IncidentState.OPEN, opened_ms=OPENED
)
DRIFT = Watched(1, "drift", 5, 5, 3_000, 900, ("the mean of image has moved",))
WELL = Watched(2, "ok", 0, 5, 4_000, 9_000)
RUN = Run(
    id="digits-r1",
    number=7,
    model="digits",
    version=1,
    manifest_sha256="0" * 64,
    file="",
    state=RunState.RUNNING,
    rounds=3,
    created_ms=1_100,
    created_by="controller",
    started_ms=1_200,
    reasons=("5 of 5 devices",),
)
ROUND = PhaseRecord(
    step=1, round=1, phase=Phase.TRAIN, eligible=5, selected=5, admitted=3, declined=1, refused=1,
    surplus=0, silent=0, reasons={"norm": 1, "power": 1}, metrics={}, bytes_down=0, bytes_up=0,
    began_ms=1_200, ended_ms=1_500, why="everybody answered",
)  # fmt: skip
CANDIDATE = CandidateFacts(2, VersionState.VALIDATED, 2_000, 2, {})
SIGNED = replace(
    CANDIDATE,
    state=VersionState.PUBLISHED,
    signed_ms={"bob": 2_600, "alice": 2_500},
    published_ms=2_600,
)
ROLLOUT = RolloutFacts("digits-2-1", RolloutState.RUNNING, 3_000, 0)
DONE = replace(
    ROLLOUT,
    state=RolloutState.SUCCEEDED,
    ended_ms=4_000,
    reason="every stage has passed",
    stages_passed={"canary": 3_400},
)
FINISHED = replace(RUN, state=RunState.FINISHED, round=3, ended_ms=1_900)

RECOVERED = (
    "recovered: the data of 5 devices together (4,000 predictions) are as in the reference of "
    "digits/2"
)

LIFE = [
    (Facts(1_050, before=DRIFT), IncidentState.OPEN),
    (Facts(1_150, before=DRIFT, run=replace(RUN, state=RunState.PROPOSED)), IncidentState.OPEN),
    (Facts(1_600, before=DRIFT, run=RUN, phases=[ROUND]), IncidentState.RETRAINING),
    (Facts(2_100, DRIFT, FINISHED, [ROUND], CANDIDATE), IncidentState.DECIDING),
    (Facts(2_900, DRIFT, FINISHED, [ROUND], SIGNED), IncidentState.DECIDING),
    (Facts(3_100, DRIFT, FINISHED, [ROUND], SIGNED, ROLLOUT), IncidentState.ROLLING_OUT),
    (Facts(4_100, DRIFT, FINISHED, [ROUND], SIGNED, DONE), IncidentState.WATCHING),
    (Facts(9_100, DRIFT, FINISHED, [ROUND], SIGNED, DONE, WELL), IncidentState.RECOVERED),
]


def test_its_whole_life() -> None:
    for facts, state in LIFE:
        assert state_of(facts) is state, facts


def test_the_story_is_told_in_order_and_once() -> None:
    incident, told = INCIDENT, {one.key: one for one in found(INCIDENT, DRIFT)}
    for facts, _ in LIFE:
        incident, entries = advanced(incident, facts)
        for one in entries:
            told.setdefault(one.key, one)
    assert incident.state is IncidentState.RECOVERED
    assert (incident.run, incident.candidate, incident.rollout) == ("digits-r1", 2, "digits-2-1")
    story = [one.sentence for one in sorted(told.values(), key=lambda one: one.at_ms)]
    assert story == [
        "5 of 5 devices see data unlike the reference",
        "the mean of image has moved",
        "proposed by controller: 5 of 5 devices",
        "started: 3 rounds over digits/1",
        "round 1: 3 of 5 devices counted; 1 declined, 1 refused (norm 1, power 1)",
        "finished after 3 rounds",
        "made of digits/1 by digits-r1",
        "signed by alice: 1 of 2",
        "signed by bob: 2 of 2",
        "published: devices may run it",
        "digits/2 goes out",
        "stage canary has passed",
        "succeeded: every stage has passed",
        RECOVERED,
    ]


def test_a_run_that_a_person_has_started_is_told_as_theirs() -> None:
    own = replace(RUN, reasons=(), created_by="ann")

    _, entries = advanced(INCIDENT, Facts(1_600, before=DRIFT, run=own))

    assert [one.sentence for one in entries] == ["started by ann: 3 rounds over digits/1"]


def test_a_controller_that_was_away_tells_all_of_it_at_once() -> None:
    _, entries = advanced(INCIDENT, LIFE[-1][0])
    by_step = {one.key for facts, _ in LIFE for one in advanced(INCIDENT, facts)[1]}
    assert by_step == {one.key for one in entries}


def test_a_world_that_goes_back_by_itself_ends_it() -> None:
    back = replace(DRIFT, verdict="ok", moved=0)
    incident, entries = advanced(INCIDENT, Facts(5_000, before=back))
    assert incident.state is IncidentState.RECOVERED
    assert incident.ended_ms == 5_000
    assert entries[-1].kind is EntryKind.END
    assert "reference of digits/1" in entries[-1].sentence


def test_a_run_that_is_at_work_is_waited_for_though_the_world_went_back() -> None:
    back = replace(DRIFT, verdict="ok")
    assert state_of(Facts(5_000, before=back, run=RUN)) is IncidentState.RETRAINING


def test_a_candidate_that_was_withdrawn_leaves_it_open() -> None:
    lost = replace(CANDIDATE, state=VersionState.REJECTED)
    assert state_of(Facts(5_000, DRIFT, FINISHED, (), lost)) is IncidentState.OPEN


def test_its_end_is_told_though_the_candidate_was_withdrawn_before() -> None:
    lost = replace(CANDIDATE, state=VersionState.REJECTED)
    back = replace(DRIFT, verdict="ok", moved=0)
    incident, entries = advanced(INCIDENT, Facts(5_000, back, FINISHED, (), lost))
    assert incident.state is IncidentState.RECOVERED
    assert entries[-1].kind is EntryKind.END
    assert "reference of digits/1" in entries[-1].sentence


def test_what_has_happened_while_it_was_looked_at_comes_before_the_end() -> None:
    late = replace(DONE, ended_ms=9_200)
    _, entries = advanced(INCIDENT, Facts(9_100, DRIFT, FINISHED, [ROUND], SIGNED, late, WELL))
    assert entries[-1].kind is EntryKind.END


def test_a_rollout_that_went_back_leaves_it_to_people() -> None:
    for state in (RolloutState.ABORTED, RolloutState.ROLLED_BACK, RolloutState.SUPERSEDED):
        bad = replace(DONE, state=state)
        assert state_of(Facts(5_000, DRIFT, FINISHED, (), SIGNED, bad)) is IncidentState.DECIDING


@given(st.sampled_from(sorted(AT_END)), st.sampled_from([facts for facts, _ in LIFE]))
def test_one_at_its_end_stays_there(state: IncidentState, facts: Facts) -> None:
    ended = replace(INCIDENT, state=state, ended_ms=1)
    assert advanced(ended, facts) == (ended, ())


@given(
    st.sampled_from([facts for facts, _ in LIFE]),
    st.sampled_from([None, DRIFT, WELL]),
    st.sampled_from([None, DRIFT, WELL]),
    st.sampled_from([None, RUN, FINISHED]),
    st.sampled_from([None, ROLLOUT, DONE, replace(DONE, state=RolloutState.ABORTED)]),
)
def test_what_does_not_decide_changes_nothing(
    facts: Facts,
    before: Watched | None,
    after: Watched | None,
    run: Run | None,
    rollout: RolloutFacts | None,
) -> None:
    whole = replace(facts, before=before, after=after, run=run, rollout=rollout)
    asked = decides(whole)
    bare = replace(
        whole,
        before=before if asked is Deciding.BEFORE else None,
        after=after if asked is Deciding.AFTER else None,
    )

    assert state_of(bare) == state_of(whole)
    assert advanced(INCIDENT, bare) == advanced(INCIDENT, whole)
