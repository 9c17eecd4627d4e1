"""`muster device`, `muster token`, `muster drift`: what devices are and tell."""

from pathlib import Path

import pytest

from tests.controller.cli.office import Muster, Office

HOSTILE = "\x1b[31mred\x1b[0m \x07bell \u202egnp\u202c\nnext line\r"


@pytest.fixture(scope="module", autouse=True)
def devices(office: Office) -> None:
    office.listed(1)
    office.enrolled("cam-1", "cam-2", site="berlin")
    office.enrolled("cam-3", site="oslo")
    office.reported("cam-1", 1)
    office.reported("cam-2", 1, "failed", "self-test-failed")
    office.told("cam-3", HOSTILE)


def test_devices_are_listed_a_line_each_with_what_they_run(muster: Muster) -> None:
    header, *rows = muster.ok("device", "list").lines

    assert header.split()[:4] == ["device", "presence", "runs", "trying"]
    assert [row.split()[:3] for row in rows] == [
        ["cam-1", "online", "digits/1"],
        ["cam-2", "online", "-"],
        ["cam-3", "online", "-"],
    ]
    assert "digits/1 failed (self-test-failed)" in rows[1]


def test_devices_are_selected_and_none_is_told_of_as_such(muster: Muster) -> None:
    oslo = muster.ok("device", "list", "--to", "site=oslo", "-o", "json").json
    assert [one["id"] for one in oslo] == ["cam-3"]
    assert {"id", "presence", "status", "labels", "facts", "slots", "last_seen"} <= oslo[0].keys()
    none = muster.ok("device", "list", "--to", "site=rome")
    assert none.out == "no device matches site=rome: `muster device list` shows all\n"
    wrong = muster.refused("device", "list", "--to", "site=a b")
    assert "[bad-selector]\n  site=a b\n         ^\n" in wrong


def test_a_selector_that_names_what_no_device_has_is_told_of(muster: Muster) -> None:
    hint = "note: no device has a label or fact 'name'; a device's own name is `id`\n"
    assert muster.ok("device", "list", "--to", "name=cam-1").err == hint
    everything = muster.ok("device", "list", "--to", "not name=cam-1", "-o", "json")
    assert (len(everything.json), everything.err) == (3, hint)
    for known in ("id=cam-9", "site=rome", "arch=x", "python=9", "has runtimes.onnxruntime", "all"):
        assert muster.ok("device", "list", "--to", known).err == ""


def test_it_is_explained_why_a_selector_matches_so_many(muster: Muster) -> None:
    selector = "site=berlin and not id=cam-2"
    done = muster.ok("device", "list", "--to", selector, "--explain")

    assert done.lines == [
        "1 of 3 devices matches",
        "1  all of",
        "2    site=berlin (berlin: 2, oslo: 1)",
        "2    not",
        "1      id=cam-2 (cam-1: 1, cam-2: 1, cam-3: 1)",
    ]
    told = muster.ok("device", "list", "--to", selector, "--explain", "-o", "json").json
    assert (told["matching"], told["devices"], told["revoked"]) == (1, 3, 0)
    hinted = muster.ok("device", "list", "--to", "name=cam-1", "--explain")
    assert hinted.lines[1:] == ["0  name=cam-1 (no name: 3)"]
    assert "no device has a label or fact 'name'" in hinted.err


def test_it_is_explained_why_a_selector_matches_a_device_or_not(muster: Muster) -> None:
    selector = "site=berlin and has gpu"
    done = muster.ok("device", "list", "--to", selector, "--explain", "cam-1")

    assert done.lines == [
        "cam-1 does not match",
        "no  all of",
        "yes   site=berlin (site is berlin)",
        "no    has gpu (no gpu)",
    ]
    assert muster.ok("device", "list", "--explain", "cam-1").lines[0] == "cam-1 matches"
    told = muster.ok("device", "list", "--to", selector, "--explain", "cam-1", "-o", "json").json
    assert (told["matches"], told["status"]) == (False, "active")
    unknown = muster.refused("device", "list", "--to", selector, "--explain", "cam-9")
    assert "[not-found]" in unknown
    assert "[bad-selector]" in muster.refused("device", "list", "--to", "site=", "--explain")
    assert "--explain" in muster.refused("device", "list", "cam-1", status=2)


def test_one_device_is_shown(muster: Muster) -> None:
    done = muster.ok("device", "show", "cam-1")
    assert "runtimes.onnxruntime=1.20.0" in done.out
    assert done.lines[-1].split()[:3] == ["digits", "1", "champion"]
    assert muster.ok("device", "show", "cam-1", "-o", "json").json["labels"] == {"site": "berlin"}
    assert muster.ok("device", "show", "cam-3").lines[-1] == "it runs no model"


def test_labels_are_set_and_removed(muster: Muster) -> None:
    done = muster.ok("device", "label", "cam-3", "line=3", "site-")
    assert done.out == "cam-3: line=3\n"
    found = muster.ok("device", "label", "cam-3", "line-", "site=oslo", "-o", "json").json
    assert found["labels"] == {"site": "oslo"}
    for words in (("x",), ("=x",), ("x=",), ("a=1", "a=2"), ()):
        assert "--help" in muster.refused("device", "label", "cam-3", *words, status=2)
    assert "[invalid-input]" in muster.refused("device", "label", "cam-3", "ÄÖ=1")


def test_what_a_device_writes_is_shown_and_never_sent_to_the_terminal(muster: Muster) -> None:
    done = muster.ok("device", "events", "cam-3")

    assert len(done.lines) == 2
    assert "\\x1b[31mred\\x1b[0m \\x07bell \\u202egnp\\u202c next line\\r" in done.lines[1]
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(done.out)
    assert muster.ok("device", "events", "cam-3", "-o", "json").json[0]["detail"] == HOSTILE


def test_events_are_limited_and_none_is_no_error(muster: Muster) -> None:
    assert len(muster.ok("device", "events", "--limit", "1").lines) == 2
    assert muster.ok("device", "events", "cam-1").out == "nothing was told yet\n"
    for limit in ("0", "1001", "-1", "nan", "9" * 30, "1.5"):
        muster.refused("device", "events", "--limit", limit, status=2)


def test_a_device_is_revoked_only_when_that_is_confirmed(muster: Muster, office: Office) -> None:
    office.enrolled("lost")

    assert muster("device", "revoke", "lost", stdin=b"").status == 1
    assert muster("device", "revoke", "lost", stdin=b"n\n").status == 1
    assert "disconnect lost" not in office.asked
    assert "lost is revoked" in muster.ok("device", "revoke", "lost", stdin=b"y\n").out
    assert "disconnect lost" in office.asked
    assert muster.ok("device", "show", "lost", "-o", "json").json["status"] == "revoked"
    (row,) = muster.ok("device", "list", "--to", "id=lost").lines[1:]
    assert row.split()[:2] == ["lost", "revoked"]
    explained = muster.ok("device", "list", "--to", "id=lost", "--explain").lines
    assert explained[-1] == "1 revoked device would match: rollouts leave revoked devices out"
    explained = muster.ok("device", "list", "--to", "id=lost", "--explain", "lost").lines
    assert explained[-1] == "lost is revoked: rollouts leave it out"


def test_join_tokens_are_made_and_listed_without_their_secrets(muster: Muster) -> None:
    made = muster.ok("token", "create", "--label", "site=berlin", "--hours", "2", "-o", "json").json
    quiet = muster.ok("token", "create", "--quiet").out.strip()
    told = muster.ok("token", "create")
    listed = muster.ok("token", "list", "-o", "json").json

    assert made["token"].startswith("muster-join-")
    assert made["expires_at"] - made["created_at"] == 7200
    assert quiet.startswith("muster-join-")
    assert told.lines[2].startswith("muster-agent enrol muster-join-")
    assert told.lines[4].endswith(" UTC, at 127.0.0.1:8445")
    assert len(listed) == 3
    table = muster.ok("token", "list")
    assert len(table.lines) == 4
    assert made["token"] not in table.out
    for hours in ("0", "-1", "nan", "inf", "1e400", "8761", "x"):
        muster.refused("token", "create", "--hours", hours, status=2)
    for label in ("x", "=1", "x="):
        muster.refused("token", "create", "--label", label, status=2)


def test_drift_of_what_nobody_told_of_is_not_found(muster: Muster) -> None:
    assert "[not-found]" in muster.refused("drift", "show", "digits")
    assert "[not-found]" in muster.refused("drift", "show", "none")
    for verb in ("show", "profile"):
        assert "no version digits/99 [not-found]" in muster.refused("drift", verb, "digits/99")
    assert "no version" not in muster.refused("drift", "show", "digits/1")
    for words in (("digits@best",), ("digits", "--since-hours", "nan"), ("digits/0",)):
        muster.refused("drift", "show", *words, status=2)


@pytest.mark.parametrize("name", ["a b/ü", "", "..", "a\nb%00", "\udcff", "x" * 100_000])
@pytest.mark.parametrize(
    "words",
    [
        ("device", "show", "{}"),
        ("device", "label", "{}", "a=b"),
        ("device", "revoke", "--yes", "{}"),
        ("device", "events", "{}"),
        ("device", "list", "--to", "site={}?"),
        ("token", "create", "--label", "{}=1"),
        ("token", "create", "--label", "k=?{}"),
        ("rollout", "show", "{}"),
        ("rollout", "abort", "{}"),
        ("operator", "create", "/{}"),
        ("operator", "revoke", "{}"),
        ("key", "create", "{}?"),
    ],
)
def test_a_name_that_can_be_none_is_refused_in_few_words(
    muster: Muster, tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    given = [word.replace("{}", name) for word in words]

    done = muster(*given, env={"MUSTER_KEYS": str(tmp_path / "keys")})

    assert done.status in {1, 2}
    assert done.out == ""
    assert ("what to do: " if done.status == 1 else "--help") in done.err
    assert "muster serve" not in done.err
    assert len(done.err) < 3000 or done.status == 2
    assert not (tmp_path / "keys").exists()
