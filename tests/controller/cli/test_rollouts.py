"""`muster rollout`: from the question whom it would reach to its end."""

import pytest

from tests.controller.cli.office import Muster, Office


@pytest.fixture(scope="module", autouse=True)
def devices(office: Office) -> None:
    office.listed(1, 2)
    office.enrolled("cam-1", "cam-2", site="berlin")


def test_a_rollout_is_previewed_started_watched_and_shown(muster: Muster, office: Office) -> None:
    empty = "no rollouts: start one with `muster rollout start`\n"
    assert muster.ok("rollout", "list").out == empty
    words = ("rollout", "start", "digits/1", "--at-once", "--to", "site=berlin")
    assert muster.ok(*words, "--dry-run").out == "it would reach 2 devices: cam-1, cam-2\n"
    one = muster.ok(*words[:-1], "id=cam-1", "--dry-run")
    assert one.out == "it would reach 1 device: cam-1\n"
    seen = muster.ok(*words, "--dry-run", "-o", "json").json
    assert seen == {"devices": ["cam-1", "cam-2"], "incompatible": {}}
    assert muster.ok("rollout", "list", "-o", "json").json == []

    assert muster.ok(*words).out == "digits-1-1 has begun: `muster rollout watch digits-1-1`\n"
    late = muster.refused("rollout", "watch", "digits-1-1", "--seconds", "1")
    assert "digits-1-1 still running [timeout]" in late
    office.reported("cam-1", 1)
    office.reported("cam-2", 1)
    office.turn()
    watched = muster.ok("rollout", "watch", "digits-1-1", "--seconds", "inf")
    assert watched.lines[-1] == "  succeeded: every stage has passed"
    header, row = muster.ok("rollout", "list").lines
    assert header.split()[0] == "rollout"
    assert row.split()[:5] == ["digits-1-1", "digits/1", "site=berlin", "succeeded", "2"]
    shown = muster.ok("rollout", "show", "digits-1-1", "-o", "json").json
    assert {"id", "model", "version", "state", "ok", "failed", "waiting"} <= shown.keys()
    assert {one["device"]: one["outcome"] for one in shown["standings"]} == {
        "cam-1": "ok",
        "cam-2": "ok",
    }
    assert muster.ok("rollout", "show", "digits-1-1").lines[-1].split()[:2] == ["cam-2", "ok"]


def test_a_rollout_that_is_paused_by_a_failure_ends_its_watch_with_status_1(
    muster: Muster, office: Office
) -> None:
    made = muster.ok(
        "rollout", "start", "digits/2", "--to", "id=cam-2", "--at-once", "-o", "json"
    ).json
    office.turn()
    office.reported("cam-2", 2, "failed", "self-test-failed")
    office.turn()

    done = muster("rollout", "watch", made["id"], "--seconds", "5")

    assert done.status == 1
    assert f"{made['id']} is paused: all: 1 of 1 failed" in done.err
    assert "[rollout-paused]" in done.err
    assert "self-test-failed" in muster.ok("rollout", "show", made["id"]).out


def test_a_rollout_is_aborted_once(muster: Muster) -> None:
    muster.ok("model", "alias", "digits@best", "1")
    made = muster.ok("rollout", "start", "digits@best", "--to", "all", "-o", "json").json

    done = muster.ok("rollout", "abort", made["id"])

    assert done.out == f"{made['id']} is aborted; 0 devices go back\n"
    assert "[conflict]" in muster.refused("rollout", "abort", made["id"], "--revert")
    again = muster.ok("rollout", "start", "digits/1", "--to", "all", "-o", "json").json
    done = muster.ok("rollout", "abort", again["id"], "--revert", "-o", "json")
    assert {"rollout", "restored", "withdrawn", "left"} == done.json.keys()
    assert "[rollout-aborted]" not in muster.refused("rollout", "watch", "none-1-1")
    assert "[rollout-rolled-back]" in muster.refused("rollout", "watch", again["id"])


def test_a_rollout_that_can_not_be_is_refused(muster: Muster) -> None:
    for words, status, why in (
        (("digits/1", "--to", "site=rome"), 1, "matches no active device [conflict]"),
        (("digits/1", "--to", "site="), 1, "[bad-selector]"),
        (("digits/9", "--to", "all"), 1, "no version digits/9 [not-found]"),
        (("digits@none", "--to", "all"), 1, "[not-found]"),
        (("digits", "--to", "all"), 2, "is not MODEL/VERSION"),
        (("digits/1",), 2, "--to"),
        (("digits/1", "--to", "all", "--watch", "-o", "json"), 2, "--watch is for people"),
    ):
        assert why in muster.refused("rollout", "start", *words, status=status)
    wrong = muster.refused("rollout", "start", "digits/1", "--to", "name=cam-1")
    assert "matches no active device; no device has a label or fact 'name'; a device's own" in wrong
    assert "`muster device list` shows every device" in wrong
    hinted = muster.ok("rollout", "start", "digits/1", "--to", "name=cam-1", "--dry-run")
    assert "no device has a label or fact 'name'" in hinted.err
    for seconds in ("0", "nan", "-1", "x"):
        muster.refused("rollout", "watch", "digits-1-1", "--seconds", seconds, status=2)
