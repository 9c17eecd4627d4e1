"""Who may do what, `muster operator` and `muster audit`."""

import sqlite3
from contextlib import closing

import pytest

from controller.access.operator import Role
from tests.controller.cli.office import Muster, Office

VIEWING: list[tuple[str, ...]] = [
    ("device", "list"),
    ("device", "show", "cam-1"),
    ("device", "events"),
    ("model", "list"),
    ("model", "show", "digits/1"),
    ("model", "card", "digits/1"),
    ("rollout", "list"),
    ("rollout", "start", "digits/1", "--to", "all", "--dry-run"),
    ("audit", "list"),
    ("audit", "verify"),
]
OPERATING: list[tuple[str, ...]] = [
    ("device", "label", "cam-1", "a=b"),
    ("token", "create"),
    ("token", "list"),
    ("model", "register", "other", "{model}", "--reference", "{reference}"),
    ("model", "withdraw", "other/1"),
    ("model", "alias", "digits@best", "1"),
    ("rollout", "start", "digits/1", "--to", "all"),
    ("rollout", "abort", "digits-1-1"),
]
APPROVING: list[tuple[str, ...]] = [("model", "approve", "digits/2", "--yes", "--key", "{key}")]
ADMINISTERING: list[tuple[str, ...]] = [
    ("model", "create", "new", "--approver", "{key}", "--threshold", "1",
     "--targets-key", "{targets}", "--yes"),
    ("device", "revoke", "cam-1", "--yes"),
    ("operator", "create", "ann"),
    ("operator", "list"),
    ("operator", "revoke", "ann"),
]  # fmt: skip
ASKED: dict[Role, list[tuple[str, ...]]] = {
    Role.VIEWER: VIEWING,
    Role.OPERATOR: OPERATING,
    Role.APPROVER: APPROVING,
    Role.ADMIN: ADMINISTERING,
}


@pytest.fixture(scope="module", autouse=True)
def something(published: Office) -> None:
    published.enrolled("cam-1")


def filled(office: Office, words: tuple[str, ...]) -> list[str]:
    places = {
        "{model}": office.model_file(),
        "{reference}": office.reference(),
        "{key}": office.key("ann"),
        "{targets}": office.targets_key,
    }
    return [str(places.get(word, word)) for word in words]


@pytest.mark.parametrize("needed", [Role.OPERATOR, Role.APPROVER, Role.ADMIN])
def test_a_lower_role_is_refused_and_told_which_one_is_needed(
    muster: Muster, office: Office, needed: Role
) -> None:
    prepare(muster, office)
    for words in ASKED[needed]:
        for role in (one for one in Role if one < needed):
            profile = office.profiles[role]
            said = muster.refused(*filled(office, words), profile=profile)
            name = role.name.lower()
            assert f"'the-{name}' is {name}; this needs {needed.name.lower()} or higher" in said
            assert "[not-allowed]" in said


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_just_what_it_should(muster: Muster, office: Office, role: Role) -> None:
    prepare(muster, office)
    for needed, commands in ASKED.items():
        if needed == role:
            for words in commands:
                muster.ok(*filled(office, words), profile=office.profiles[role])


def prepare(muster: Muster, office: Office) -> None:
    """A second version that waits for a signature, once."""
    shown = muster("model", "show", "digits/2")
    if shown.status:
        words = ("model", "register", "digits", office.model_file(2.0), "--reference")
        muster.ok(*words, office.reference())


def test_operators_are_made_once_and_their_token_serves_until_it_is_revoked(
    muster: Muster, office: Office
) -> None:
    made = muster.ok("operator", "create", "bea", "--role", "approver", "-o", "json").json
    assert (made["name"], made["role"]) == ("bea", "approver")
    profile = office.profile("bea", token=made["token"])
    muster.ok("device", "list", profile=profile)
    assert "[conflict]" in muster.refused("operator", "create", "bea")
    assert "'queen' is none of viewer" in muster.refused(
        "operator", "create", "c", "--role", "queen"
    )
    told = muster.ok("operator", "create", "carl")
    assert told.lines[-1].startswith("muster_op_")
    rows = muster.ok("operator", "list").lines
    assert ["bea", "approver", "never"] in [row.split() for row in rows]

    assert muster.ok("operator", "revoke", "bea").out == "the token of bea serves no more\n"
    said = muster.refused("device", "list", profile=profile)
    assert "the token of 'bea' was revoked [not-authenticated]" in said


def test_the_audit_record_is_listed_and_verified_and_an_altered_one_is_found(
    muster: Muster, office: Office
) -> None:
    header, *rows = muster.ok("audit", "list", "--limit", "3").lines
    assert header.split()[0] == "#"
    assert len(rows) == 3
    (first,) = muster.ok("audit", "list", "--after", "1", "--limit", "1", "-o", "json").json
    assert first["sequence"] == 2
    assert {"sequence", "at_ms", "actor", "action", "subject", "detail", "digest"} <= first.keys()
    assert muster.ok("audit", "list", "--after", str(2**63 - 1)).out == "no records\n"
    for wrong in (("--after", "-1"), ("--after", "9" * 30), ("--limit", "0"), ("--limit", "x")):
        muster.refused("audit", "list", *wrong, status=2)
    whole = muster.ok("audit", "verify")
    assert whole.lines[0].endswith("records hold together")
    assert muster.ok("audit", "verify", "-o", "json").json["holds"] is True

    with closing(sqlite3.connect(office.home.database)) as database:
        database.execute("UPDATE audit SET actor = 'nobody' WHERE sequence = 3")
        database.commit()
    done = muster("audit", "verify", "-o", "json")
    assert (done.status, done.json["broken_at"]) == (1, 3)
    assert "record 3 does not follow the one before it [audit-broken]" in done.err
