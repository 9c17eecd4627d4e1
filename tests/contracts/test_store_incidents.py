"""What every store of the controller promises of incidents."""

from dataclasses import replace

import pytest

from controller.incident.incident import EntryKind, Incident, IncidentState, StoryEntry
from controller.store.store import Store

INCIDENT = Incident(
    id="digits-i1", model="digits", version=1, state=IncidentState.OPEN, opened_ms=2**41
)
LATER = replace(INCIDENT, id="meter-i1", model="meter", opened_ms=2**41 + 5)
FOUND = StoryEntry("finding-0", 10, EntryKind.FINDING, "digits/1", "5 of 5 devices")
ROUND = StoryEntry("round-1", 30, EntryKind.ROUND, "digits-r1", "round 1")
START = StoryEntry("run", 20, EntryKind.RUN, "digits-r1", "started")


def test_an_incident_comes_back_as_it_was_put_and_is_replaced_by_the_next(store: Store) -> None:
    further = replace(
        INCIDENT,
        state=IncidentState.ROLLING_OUT,
        run="digits-r1",
        candidate=2,
        rollout="digits-2-1",
    )
    with store.begin() as tx:
        tx.incidents.put(INCIDENT)
        tx.incidents.put(LATER)
        assert tx.incidents.get("digits-i1") == INCIDENT
        tx.incidents.put(further)
    with store.read() as tx:
        assert tx.incidents.get("digits-i1") == further
        assert tx.incidents.get("digits-i2") is None
        assert list(tx.incidents.all()) == [LATER, further]
        assert list(tx.incidents.all("digits")) == [further]


def test_those_at_their_end_are_not_open(store: Store) -> None:
    recovered = replace(LATER, state=IncidentState.RECOVERED, ended_ms=2**41 + 9)
    closed = replace(LATER, id="meter-i0", state=IncidentState.CLOSED, closed_by="ada")
    with store.begin() as tx:
        for one in (INCIDENT, recovered, closed):
            tx.incidents.put(one)
        assert list(tx.incidents.open()) == [INCIDENT]


def test_a_story_is_in_the_order_of_time_and_tells_nothing_twice(store: Store) -> None:
    again = replace(START, at_ms=99, sentence="started again")
    at_once = replace(ROUND, key="round-2", sentence="round 2, in the same moment")
    with store.begin() as tx:
        tx.incidents.tell("digits-i1", [FOUND, ROUND])
        tx.incidents.tell("digits-i1", [START, again, at_once])
        tx.incidents.tell("meter-i1", [FOUND])
        tx.incidents.tell("meter-i1", [])
    with store.read() as tx:
        assert list(tx.incidents.story("digits-i1")) == [FOUND, START, ROUND, at_once]
        assert list(tx.incidents.story("meter-i1")) == [FOUND]
        assert list(tx.incidents.story("digits-i9")) == []


def test_what_is_told_in_a_transaction_that_fails_was_never_told(store: Store) -> None:
    def fail() -> None:
        with store.begin() as tx:
            tx.incidents.put(INCIDENT)
            tx.incidents.tell("digits-i1", [FOUND])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.read() as tx:
        assert tx.incidents.get("digits-i1") is None
        assert list(tx.incidents.story("digits-i1")) == []
