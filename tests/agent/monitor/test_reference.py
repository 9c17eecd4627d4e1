import json
from collections.abc import Callable
from typing import Any

import pytest

from agent.monitor.reference import REFERENCE_BYTES, read_reference
from protos.documents import sha256
from protos.errors import DocumentError
from tests.agent.monitor import profiles

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> bytes:
    document = json.loads(profiles.reference().encode())
    change(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def test_a_profile_reads_back_as_it_was_written() -> None:
    reference = profiles.reference()

    data = reference.encode()

    assert read_reference(data) == reference
    assert reference.digest == sha256(data)


def test_a_profile_is_small() -> None:
    reference = profiles.reference()

    assert len(reference.encode()) / len(reference.series) < 1500


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.pop("series"), "series"),
        (lambda d: d["series"][0].update(kind="odd"), r"\$.series\[0\].kind"),
        (lambda d: d["series"][1]["counts"].pop(), r"\$.series\[1\].counts"),
        (lambda d: d["series"][1]["counts"].__setitem__(1, -1), r"\$.series\[1\].counts\[1\]"),
        (lambda d: d["series"][1]["counts"].__setitem__(1, 1), r"series\[1\].*counts.*add up"),
        (lambda d: d["series"][0]["edges"].reverse(), r"series\[0\].*edges"),
        (lambda d: d["series"][2]["categories"].reverse(), r"series\[2\].*categories"),
        (lambda d: d["series"][2].update(categories=[1.0, "b"]), r"series\[2\].*categories"),
        (lambda d: d["series"][3].update(categories=["a", "a"]), r"series\[3\].*twice"),
        (lambda d: d["series"][0].update(unit=0.3), r"series\[0\].*power of two"),
        (lambda d: d["series"][0].update(lower=None), r"series\[0\].*lower"),
        (lambda d: d["series"][1].update(name=d["series"][0]["name"]), r"series.*name.*twice"),
        (lambda d: d["series"].pop(), "sources"),
        (lambda d: d["table"].update(sizes=[100, 50, 300, 1000, 3000]), r"table.sizes"),
        (lambda d: d["table"]["evidence"].pop(), r"table.evidence"),
        (lambda d: d["table"]["effect"][0].reverse(), r"table.effect"),
        (lambda d: d["policy"].update(n_min=10), r"\$.policy.n_min"),
        (lambda d: d["policy"].update(t_min_seconds=1e9), r"policy.t_min_seconds"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.update(schema=2), "schema"),
    ],
)
def test_what_is_wrong_with_a_profile_is_named(change: Change, named: str) -> None:
    with pytest.raises(DocumentError, match=named):
        read_reference(changed(change))


@pytest.mark.parametrize("data", [b"\x80\x04not json", b'{"schema": "\xff"}', b"[" * 100_000, b""])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="reference profile"):
        read_reference(data)


def test_another_spelling_of_the_same_profile_is_refused() -> None:
    spaced = json.dumps(json.loads(profiles.reference().encode())).encode()

    with pytest.raises(DocumentError, match="canonical"):
        read_reference(spaced)


def test_an_endless_profile_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(DocumentError) as caught:
        read_reference(b" " * (REFERENCE_BYTES + 1))

    assert caught.value.code == "too-large"
