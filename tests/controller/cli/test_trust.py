"""`muster trust`: renewing and changing who signs, with the offline keys, on several machines."""

import json
from pathlib import Path

import pytest

from controller.access.operator import Role
from controller.cli.profile import read_profile
from tests.controller.cli.office import MODEL, Muster, Office


def offline(office: Office, name: str) -> Path:
    return office.home.offline / f"{name}.pem"


def role(muster: Muster, name: str) -> dict[str, object]:
    rows = muster.ok("trust", "show", "-o", "json").json
    (row,) = (one for one in rows if one["role"] == name)
    return dict(row)


def test_every_role_is_shown_with_who_signs_it(muster: Muster, published: Office) -> None:
    lines = muster.ok("trust", "show").lines

    assert [line.split()[0] for line in lines[1:]] == [
        "root", "targets", "snapshot", "timestamp", "director", "model",
    ]  # fmt: skip
    assert "ann" in lines[-1]
    assert role(muster, "root")["signers"] == ["root-1"]


def test_root_and_targets_begin_a_new_lifetime_together(muster: Muster, published: Office) -> None:
    before = [role(muster, name)["version"] for name in ("root", "targets")]
    keys = ("--key", offline(published, "root-1"), "--key", published.targets_key)

    done = muster.ok("trust", "renew", *keys, "--yes")

    assert done.out.count("changes nothing but the expiry") == 2
    after = [role(muster, name)["version"] for name in ("root", "targets")]
    assert after == [int(str(one)) + 1 for one in before]
    assert role(muster, f"model {MODEL}")["version"] == 1


def test_a_models_role_is_renewed_by_its_approvers(muster: Muster, published: Office) -> None:
    done = muster.ok("model", "renew", MODEL, "--key", published.key("ann"), "--yes")

    assert f"changes nothing of {MODEL} but the expiry" in done.out
    assert f"{MODEL} is renewed" in done.out
    assert role(muster, f"model {MODEL}")["version"] == 2


def test_a_root_that_two_must_sign_goes_from_one_to_the_other(
    muster: Muster, published: Office, tmp_path: Path
) -> None:
    dave, first = published.key("dave"), offline(published, "root-1")
    adding = ("--add", dave.with_suffix(".json"), "--threshold", "2")
    left = tmp_path / "next.root.json"
    version = int(str(role(muster, "root")["version"]))

    begun = muster.ok("trust", "change", "root", *adding, "--key", first, "--save", left, "--yes")

    assert "root: new dave" in begun.out
    assert "2 of 2 must sign, not 1 of 1" in begun.out
    assert f"1 more must sign it:\neach runs `muster trust sign {left}" in begun.out
    assert role(muster, "root")["version"] == version
    assert "none of these keys may sign root" in muster.refused(
        "trust", "sign", left, "--key", published.key("mallory"), "--yes"
    )

    done = muster.ok("trust", "sign", left, "--key", dave, "--yes")

    assert f"root {version + 1} is published" in done.out
    assert role(muster, "root")["signers"] == ["root-1", "dave"]
    assert role(muster, "root")["threshold"] == 2
    # And back: both must sign now.
    back = ("trust", "change", "root", "--remove", "dave", "--threshold", "1", "--yes")
    alone = muster.ok(*back, "--key", first, "--save", left)
    assert "1 more must sign it" in alone.out
    muster.ok("trust", "sign", left, "--key", dave, "--yes")
    assert role(muster, "root")["signers"] == ["root-1"]


def test_a_director_is_added_and_the_old_one_dismissed_with_the_targets_key(
    muster: Muster, published: Office
) -> None:
    fresh = published.key("night").with_suffix(".json")
    words = ("trust", "change", "director", "--key", published.targets_key, "--yes")

    added = muster.ok(*words, "--add", fresh)
    assert "director: new night" in added.out
    assert role(muster, "director")["signers"] == ["director", "night"]

    gone = muster.ok(*words, "--remove", "night")
    assert "director: no more night" in gone.out
    assert role(muster, "director")["signers"] == ["director"]


def test_targets_keys_are_exchanged_one_after_the_other(muster: Muster, published: Office) -> None:
    fresh, root = published.key("erin"), offline(published, "root-1")
    words = ("trust", "change", "targets", "--key", root, "--yes")

    muster.ok(*words, "--add", fresh.with_suffix(".json"))
    too_soon = muster.refused(*words, "--remove", "targets")
    assert "[bad-signature]" in too_soon
    muster.ok("trust", "renew", "--key", fresh, "--yes")
    muster.ok(*words, "--remove", "targets")

    assert role(muster, "targets")["signers"] == ["erin"]
    muster.ok("trust", "renew", "--key", fresh, "--yes")
    # And back, for the other tests.
    muster.ok(*words, "--add", published.targets_key.with_suffix(".json"))
    muster.ok("trust", "renew", "--key", published.targets_key, "--yes")
    muster.ok(*words, "--remove", "erin")


def test_a_key_that_the_controller_does_not_have_can_not_be_its_own(
    muster: Muster, published: Office
) -> None:
    fresh = published.key("other").with_suffix(".json")
    exchange = ("--add", fresh, "--remove", "snapshot", "--key", offline(published, "root-1"))

    assert "[config]" in muster.refused("trust", "change", "snapshot", *exchange, "--yes")
    assert role(muster, "snapshot")["signers"] == ["snapshot"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--remove", "nobody"), "root: there is no key 'nobody'; there are: root-1 [not-found]"),
        (("--remove", "root-1"), "threshold 1 with 0 keys"),
        (("--threshold", "3"), "threshold 3 with 1 keys"),
    ],
)
def test_a_change_that_can_not_be_is_refused(
    muster: Muster, published: Office, words: tuple[str, ...], why: str
) -> None:
    key = ("--key", offline(published, "root-1"), "--yes")

    assert why in muster.refused("trust", "change", "root", *words, *key)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="another document"),
        pytest.param(b"\xff\x00", id="no text"),
        pytest.param(b"[" * 10_000, id="nested"),
    ],
)
def test_what_is_no_metadata_is_signed_by_nobody(
    muster: Muster, published: Office, data: bytes
) -> None:
    file = published.file("odd.json", data)

    why = muster.refused("trust", "sign", file, "--key", published.targets_key, "--yes")
    assert "the pending targets: not TUF metadata [invalid-input]" in why


def test_what_another_has_slipped_in_is_signed_by_nobody(
    muster: Muster, published: Office, tmp_path: Path
) -> None:
    left = tmp_path / "next.json"
    muster.ok(
        *("trust", "change", "root", "--add", published.key("carl").with_suffix(".json")),
        *("--threshold", "2", "--key", offline(published, "root-1"), "--save", left, "--yes"),
    )
    pending = json.loads(left.read_text())
    pending["signed"]["slipped"] = "in"
    left.write_text(json.dumps(pending))

    why = muster.refused("trust", "sign", left, "--key", published.key("carl"), "--yes")
    assert "it changes more than keys and thresholds" in why
    assert role(muster, "root")["signers"] == ["root-1"]


def test_viewers_see_the_roles_and_change_none(muster: Muster, published: Office) -> None:
    viewer = published.profiles[Role.VIEWER]
    assert read_profile(viewer).token
    assert muster.ok("trust", "show", profile=viewer).lines

    key = ("--key", offline(published, "root-1"), "--yes")
    assert "admin" in muster.refused("trust", "renew", *key, profile=viewer)
