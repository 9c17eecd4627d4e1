"""`muster incident`: what was found, its story, and what a person may do next."""

from dataclasses import replace

import pytest

from controller.federated.run import RunState
from controller.incident.incident import EntryKind, Incident, IncidentState, StoryEntry
from tests.contracts.federated_values import RUN
from tests.controller.cli.office import Muster, Office

FOUND = Incident(
    id="digits-i1",
    model="digits",
    version=3,
    state=IncidentState.OPEN,
    opened_ms=1_700_000_000_000,
    run=RUN.id,
)
FINDING = StoryEntry(
    "finding-0", FOUND.opened_ms, EntryKind.FINDING, "digits/3", "9 of 10 devices see others"
)


def put(office: Office, incident: Incident, run: RunState = RunState.PROPOSED) -> None:
    with office.store.begin() as tx:
        tx.incidents.put(incident)
        tx.incidents.tell(incident.id, [FINDING])
        tx.runs.put(replace(RUN, state=run))


def test_an_incident_is_listed_told_and_closed(muster: Muster, office: Office) -> None:
    assert muster.ok("incident", "list").out == "no incidents\n"
    put(office, FOUND)

    header, row = muster.ok("incident", "list", "--model", "digits").lines
    assert header.split()[-1] == "ended"
    assert row.split()[-1] == "-"
    head, finding, _ = muster.ok("incident", "show", "digits-i1").lines
    assert head == "digits-i1: the data of digits/3 have changed; open"
    assert finding == "  2023-11-14 22:13:20  digits/3: 9 of 10 devices see others"
    assert muster.ok("incident", "show", "digits-i1", "-o", "json").json["incident"]["run"]

    closed = muster.ok("incident", "close", "digits-i1", "--reason", "the lamps are mended").out
    assert closed == "digits-i1 is closed\n"
    assert "closed already" in muster.refused("incident", "close", "digits-i1")
    *_, last = muster.ok("incident", "show", "digits-i1").lines
    assert last.endswith("closed by the-admin: the lamps are mended")
    assert "`muster incident list`" in muster.refused("incident", "show", "digits-i9")


@pytest.mark.parametrize(
    ("state", "run", "said"),
    [
        (IncidentState.OPEN, RunState.PROPOSED, "muster federated start digits-r1"),
        (IncidentState.OPEN, RunState.FAILED, "muster federated resume digits-r1"),
        (
            IncidentState.OPEN,
            RunState.DISMISSED,
            "muster federated start FILE, or muster incident close digits-i1",
        ),
        (IncidentState.RETRAINING, RunState.RUNNING, "muster federated watch digits-r1"),
        (IncidentState.DECIDING, RunState.FINISHED, "muster model show digits/4"),
        (IncidentState.ROLLING_OUT, RunState.FINISHED, "muster rollout watch digits-4-1"),
        (IncidentState.WATCHING, RunState.FINISHED, "muster drift show digits"),
    ],
)
def test_what_may_be_done_next_follows_from_where_it_stands(
    muster: Muster, office: Office, state: IncidentState, run: RunState, said: str
) -> None:
    put(office, replace(FOUND, state=state, candidate=4, rollout="digits-4-1"), run)

    assert muster.ok("incident", "show", "digits-i1").lines[-1] == f"next: {said}"


def test_one_without_a_run_says_what_may_be_done(muster: Muster, office: Office) -> None:
    put(office, replace(FOUND, run=""))

    last = muster.ok("incident", "show", "digits-i1").lines[-1]
    assert last.endswith("muster incident close digits-i1")
