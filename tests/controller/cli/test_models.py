"""`muster model`: a version's whole way through the commands, and what is refused on it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.candidate.actions import Means, here, register_candidate
from tests.controller.candidate.runs import trained
from tests.controller.cli.office import MODEL, Muster, Office
from tests.controller.registry.building import classifier, npz


def test_a_version_is_registered_approved_by_two_aliased_and_recalled(
    muster: Muster, office: Office
) -> None:
    assert muster.ok("model", "list").out == "no models: `muster model register NAME FILE.onnx …`\n"
    assert muster.ok("model", "list", "-o", "json").json == []
    registered_before_anybody_approves(muster, office)
    appointed(muster, office)
    approved_by_two(muster, office)
    trained_by_devices(muster, office)
    aliased(muster)
    recalled(muster, office)


def registered_before_anybody_approves(muster: Muster, office: Office) -> None:
    card = office.file("card.md", b"Tells digits apart.")
    words = ("model", "register", MODEL, office.model_file(), "--reference", office.reference())
    gates = ("--at-least", "accuracy=0.9", "--semantic", "x=numeric", "--git-commit", "c0ffee")
    lone = muster.refused(*words, "--loss", "mse", status=2)
    assert "--loss goes with --trainable" in lone
    training = ("--trainable", "all", "--optimizer", "momentum")
    done = muster.ok(*words, *gates, *training, "--card", card)
    assert done.lines[0].split() == ["version", "digits/1"]
    assert "validated" in done.lines[1]
    assert done.lines[-1] == "next: say who approves it: `muster model create digits --help`"
    shown = json.loads(muster.ok("model", "card", "digits/1").out)
    assert shown["bomFormat"] == "CycloneDX"
    assert "Tells digits apart." in json.dumps(shown)
    again = muster.refused(*words, *gates, *training)
    assert "digits/1 already (validated) [conflict]" in again


def appointed(muster: Muster, office: Office) -> None:
    early = muster.refused("model", "approve", "digits/1", "--yes", "--key", office.key("ann"))
    assert "digits has no approvers yet [not-found]" in early
    assert "`muster model create digits --help`" in early
    keys = [office.key(name) for name in ("ann", "bob")]
    named = [word for key in keys for word in ("--approver", key.with_suffix(".json"))]
    words = ("model", "create", MODEL, *named, "--threshold", "2", "--targets-key")
    wrong = muster.refused(*words, keys[0], "--yes")
    assert "none that may sign targets [bad-signature]" in wrong
    missing = muster.refused(*words, office.folder / "no.pem", "--yes")
    assert "no.pem: no such key [not-found]" in missing
    assert "`muster key create NAME`" in missing
    assert (
        muster("model", "create", MODEL, *words[3:], office.targets_key, stdin=b"n\n").status == 1
    )
    done = muster.ok(*words, office.targets_key, stdin=b"y\n")
    assert "versions of digits need 2 of 2: ann, bob" in done.out
    (row,) = muster.ok("model", "list").lines[1:]
    assert row.split()[:4] == ["digits", "1", "1", "validated"]
    assert "2 of ann, bob" in row


def approved_by_two(muster: Muster, office: Office) -> None:
    words = ("model", "approve", "digits/1", "--key")
    stranger = muster.refused(*words, office.key("eve"), "--yes")
    assert "is of no approver of digits [bad-signature]" in stranger
    first = muster.ok(*words, office.key("ann").with_suffix(".json"), "--yes")
    assert "1 version listed afterwards" in first.out
    assert "publishes digits/1" in first.out
    assert "devices may train 12 numbers of it (w): softmax_cross_entropy by momentum" in first.out
    assert first.lines[-1] == "signed: 1 of 2; 1 more must sign"
    assert muster.ok(*words, office.key("bob"), stdin=b"y\n").lines[-1].endswith("is published")
    again = muster.refused(*words, office.key("ann"), "--yes")
    assert "nothing of digits/1 waits for a signature: it is published already" in again
    assert "`muster rollout start digits/1 --to SELECTOR`" in again
    shown = muster.ok("model", "show", "digits/1", "-o", "json").json
    assert (shown["state"], shown["waits_for"]) == ("published", "")
    assert {"model", "version", "manifest", "manifest_sha256", "aliases"} <= shown.keys()
    shown = muster.ok("model", "show", "digits/1")
    assert shown.lines[-1] == "next: `muster rollout start digits/1 --to SELECTOR`"
    refused = muster.refused("model", "withdraw", "digits/1")
    assert "it can't be withdrawn; recall it instead" in refused


def trained_by_devices(muster: Muster, office: Office) -> None:
    services = office.services
    means = Means(office.store, services.blobs, here(services.runtime), 3)
    register_candidate(means, "digits/1", trained(run="run-7"), "ann", 1_790_000_000.0)
    shown = {line.split()[0]: line for line in muster.ok("model", "show", "digits/2").lines if line}
    assert "digits/1, trained on devices: run run-7, 3 rounds" in shown["comes"]
    assert "accuracy 0." in shown["beside"]
    assert " → 0.9" in shown["beside"]
    assert "on devices: 12 numbers of w; softmax_cross_entropy by " in shown["trainable"]
    assert "for devices that have digits/1" in shown["as"]
    asked = muster.ok("model", "show", "digits/2", "-o", "json").json
    assert asked["parent_metrics"]["accuracy"] < 0.5
    assert asked["waits_for"] == "add"
    first = muster.ok("model", "approve", "digits/2", "--yes", "--key", office.key("ann"))
    assert "trained on devices from digits/1: run run-7, 3 rounds" in first.out
    muster.ok("model", "withdraw", "digits/2")


def aliased(muster: Muster) -> None:
    assert muster.ok("model", "alias", "digits@champion", "1").out.endswith("is now digits/1\n")
    assert muster.ok("model", "show", "digits@champion", "-o", "json").json["version"] == 1
    (one,) = muster.ok("model", "list", "-o", "json").json
    assert one["aliases"] == {"champion": 1}
    assert "champion" in muster.ok("model", "show", "digits").out
    header, row = muster.ok("model", "list").lines
    assert row[header.index("published") :].split()[0] == "1"
    assert muster.ok("model", "alias", "digits@champion").out.endswith("is now nothing\n")
    assert "[not-found]" in muster.refused("model", "alias", "digits@champion")
    assert "no version digits/5" in muster.refused("model", "alias", "digits@champion", "5")


def recalled(muster: Muster, office: Office) -> None:
    words = ("model", "recall", "digits/1", "--yes", "--key")
    muster.refused(*words, office.folder / "no.pem")
    still = muster.ok("model", "show", "digits/1", "-o", "json").json
    assert still["waits_for"] == ""  # what can't be signed was not proposed either
    assert muster.ok(*words, office.key("ann")).lines[-1] == "signed: 1 of 2; 1 more must sign"
    assert muster.ok(*words, office.key("bob")).lines[-1].endswith("digits/1 is recalled")
    assert "recalled" in muster.ok("model", "show", "digits").out


def test_a_version_that_misses_a_gate_is_shown_and_the_status_says_so(
    muster: Muster, office: Office
) -> None:
    words = ("model", "register", "poor", office.model_file(), "--reference", office.reference())
    done = muster(*words, "--at-least", "accuracy=0.999", "-o", "json")

    assert done.status == 1
    assert done.json["state"] == "rejected"
    assert "[rejected]" in done.err
    assert "needs at least 0.999" in done.err
    header, row = muster.ok("model", "list").lines[0], muster.ok("model", "list").lines[-1]
    assert row.split()[:4] == ["poor", "1", "1", "rejected"]
    assert row[header.index("published") :].split()[0] == "-"
    unknown = muster.refused(*words, "--at-least", "rsme=1", status=2)
    assert "'rsme' is no metric; there are: accuracy, macro_f1, mae, rmse" in unknown


def test_a_version_is_withdrawn(muster: Muster, office: Office) -> None:
    words = ("model", "register", "spare", office.model_file(), "--reference", office.reference())
    made = muster.ok(*words, "-o", "json").json
    assert (made["model"], made["state"]) == ("spare", "validated")
    assert isinstance(made["notes"], list)

    assert (
        muster.ok("model", "withdraw", "spare/1", "--reason", "no").out == "spare/1 is rejected\n"
    )
    assert muster.ok("model", "show", "spare/1", "-o", "json").json["state"] == "rejected"


PICKLE = b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94."
ZIP = b"PK\x03\x04" + bytes(40)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "bad.onnx: not an ONNX file: it is empty [bad-model]"),
        (bytes(range(256)) * 99, "bad.onnx: not an ONNX file: "),
        (PICKLE, "bad.onnx: not an ONNX file: it is a Python pickle: never accepted"),
        (ZIP, "bad.onnx: not an ONNX file: it is a ZIP archive"),
        (classifier().SerializeToString()[:-9], "bad.onnx: "),
    ],
)
def test_a_file_that_is_no_model_is_refused_by_name(
    muster: Muster, office: Office, data: bytes, why: str
) -> None:
    bad = office.file("bad.onnx", data)

    assert why in muster.refused("model", "register", "m", bad, "--reference", office.reference())


OBJECTS = npz(x=np.array([{"a": 1}, None], dtype=object))
TEXTS = npz(x=np.array([["a"] * 4] * 200))
NUMBERS = npz(x=np.full((200, 4), np.nan, dtype=np.float32))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "bad.npz: not an .npz file"),
        (PICKLE, "bad.npz: not an .npz file"),
        (OBJECTS, "which is a pickle: never accepted"),
        (npz(x=np.array(3, dtype=np.float32)), "array 'x': float32 []"),
        (npz(x=np.zeros((3, 4), dtype=np.float32)), "3 rows; at least 100 are needed"),
        (npz(y=np.zeros((200, 4), dtype=np.float32)), "'x'"),
        (TEXTS, "array 'x': "),
        (NUMBERS, "'x'"),
    ],
)
def test_reference_data_that_do_not_fit_are_refused_by_name(
    muster: Muster, office: Office, data: bytes, why: str
) -> None:
    bad = office.file("bad.npz", data)

    assert why in muster.refused("model", "register", "m", office.model_file(), "--reference", bad)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (".", "Is a directory [bad-input]"),
        ("none", "No such file or directory [bad-input]"),
        ("/dev/zero", "/dev/zero: a device or a pipe, no file [bad-input]"),
        ("x" * 100_000, "File name too long [bad-input]"),
        ("\udcff", "No such file or directory [bad-input]"),
    ],
)
@pytest.mark.parametrize("place", range(3))
def test_a_path_that_names_no_file_is_refused_before_anything_is_sent(
    muster: Muster, office: Office, part: str, why: str, place: int
) -> None:
    paths: list[Any] = [office.model_file(), office.reference(), office.file("c.md", b"x")]
    paths[place] = Path(part) if part.startswith("/") else office.folder / part
    words = ("model", "register", "m", paths[0], "--reference", paths[1], "--card", paths[2])

    said = muster.refused(*words)

    assert why in said
    assert len(said) < 3000


@pytest.mark.parametrize(
    "words",
    [
        ("create", "Digits", "--approver", "a", "--threshold", "1", "--targets-key", "t"),
        ("create", "m", "--approver", "a", "--threshold", "2", "--targets-key", "t"),
        ("create", "m", "--approver", "a", "--threshold", "0", "--targets-key", "t"),
        ("create", "m", "--threshold", "1", "--targets-key", "t"),
        ("register", "a b", "m.onnx", "--reference", "r.npz"),
        ("register", "m", "m.onnx"),
        *(
            ("register", "m", "m.onnx", "--reference", "r.npz", "--at-least", f"accuracy={number}")
            for number in ("nan", "inf", "1e400", "x", "")
        ),
        ("register", "m", "m.onnx", "--reference", "r.npz", "--semantic", "x=colour"),
        ("register", "m", "m.onnx", "--reference", "r.npz", "--semantic", "x"),
        ("approve", "digits", "--key", "k"),
        ("approve", "digits/0", "--key", "k"),
        ("recall", "digits@champion", "--key", "k"),
        ("recall", "digits/1", "--key", "k", "--floor", "-1"),
        ("recall", "digits/1", "--key", "k", "--floor", "9" * 30),
        ("withdraw", "digits/x"),
        ("show", "digits/1/2"),
        ("show", ""),
        ("show", "x" * 100_000),
        ("alias", "digits"),
        ("alias", "digits@champion", "1.5"),
        ("alias", "digits@champion", "9" * 30),
        ("card", "\udcff/1"),
        ("list", "--output", "yaml"),
        ("nonesuch",),
    ],
)
def test_wrong_usage_is_told_with_status_2(muster: Muster, words: tuple[str, ...]) -> None:
    said = muster.refused("model", *words, status=2)

    assert "--help" in said


def test_versions_and_models_that_are_not_there_are_not_found(
    muster: Muster, office: Office
) -> None:
    key = ("--key", office.key("ann"))
    for words in (
        ("show", "none"),
        ("show", "none/1"),
        ("show", "none@best"),
        ("card", "none/1"),
        ("withdraw", "none/1"),
        ("approve", "none/1", *key),
        ("recall", "none/1", *key),
        ("alias", "none@best", "1"),
    ):
        assert "[not-found]" in muster.refused("model", *words)


def test_a_key_that_can_not_be_used_is_named_with_what_to_do(
    muster: Muster, office: Office
) -> None:
    seen = office.key("seen")
    seen.chmod(0o644)
    half = office.file("half.json", office.key("ann").with_suffix(".json").read_bytes())
    strange = office.file("strange.json", b"[1, 2]")
    for path, why in (
        (office.folder / "none.pem", "none.pem: no such key"),
        (seen, "others may read it; set it right with `chmod 600"),
        (half, "ann.pem: no such private key"),
        (strange, "strange.json: not a public key file"),
        (office.folder, "no such key file"),
        (Path(), "the key name ''"),
        (office.folder / ("x" * 100_000), "the key name 'xxx"),
    ):
        said = muster.refused("model", "approve", "digits/1", "--yes", "--key", path)
        assert why in said
        assert "Name a private key" in said
    for path in (office.folder / "none.json", strange, Path(), office.folder):
        words = ("--approver", path, "--threshold", "1", "--targets-key", office.targets_key)
        assert "Name a public key" in muster.refused("model", "create", "m", *words, "--yes")


def test_a_pinned_root_that_is_none_stops_every_signature(muster: Muster, office: Office) -> None:
    for name, data in (("empty", b""), ("noise", bytes(range(256))), ("other", b"{}")):
        profile = office.profile("broken", root=str(office.file(f"{name}.json", data)))
        appoint = ("--approver", office.key("ann").with_suffix(".json"), "--threshold", "1")
        keys = ("--targets-key", office.targets_key)
        said = muster.refused("model", "create", "rooted", *appoint, *keys, profile=profile)
        assert f"{name}.json" in said
