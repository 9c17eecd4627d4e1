import json
from typing import Any

import msgspec
import numpy as np
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from controller.errors import InvalidInput, TooLarge
from controller.registry.author_text import AuthorText, Risk, read_author_text
from controller.registry.card import CardFacts, author_text, card, markdown, parent_metrics
from controller.registry.origin import Origin
from controller.registry.signature import infer
from protos.documents import sha256
from tests.controller.registry.building import WEIGHTS, classifier, examined, rows_and_truth

TEXT = b"""
description = "Tells three kinds of things apart."
authors = ["Ann", "Bo"]
license = "Apache-2.0"
data = "Made up, 2026"
users = ["Testers"]
use_cases = ["Testing"]
limitations = ["Knows three kinds only"]
tradeoffs = ["Small rather than right"]

[[ethical_considerations]]
name = "None known"
mitigation = "Look again"
"""


def facts(**changes: Any) -> CardFacts:
    x, truth = rows_and_truth(40)
    logits = x @ WEIGHTS
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    onnx = examined(classifier())
    outputs = {"label": truth, "probabilities": shares}
    known: dict[str, Any] = {
        "model": "things",
        "version": 3,
        "registered_at": 1_790_000_000.5,
        "onnx": onnx,
        "model_sha256": sha256(b"model"),
        "reference_rows": 40,
        "signature": infer(onnx, {"x": x}, outputs, {}),
        "metrics": {"accuracy": 0.95, "macro_f1": 0.9},
        "lineage": {"parent": "things/2", "round": ""},
    }
    return CardFacts(**{**known, **changes})


def objections(document: bytes) -> object:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode())


@pytest.mark.parametrize(
    "text", [AuthorText(), read_author_text(TEXT, "card.toml"), AuthorText(description="# Hi")]
)
def test_a_card_is_strict_cyclonedx(text: AuthorText) -> None:
    assert objections(card(facts(), text)) is None
    assert objections(card(facts(metrics={}, lineage={}), text)) is None


def test_the_validator_would_object_to_another_field() -> None:
    document = json.loads(card(facts(), AuthorText()))
    document["metadata"]["component"]["modelCard"]["bogus"] = 1

    assert objections(json.dumps(document).encode()) is not None


def test_the_same_facts_give_the_same_bytes_and_others_give_another_identity() -> None:
    one, same = card(facts(), AuthorText()), card(facts(), AuthorText())
    other = json.loads(card(facts(version=4), AuthorText()))

    assert one == same
    assert json.loads(one)["serialNumber"] != other["serialNumber"]


def test_a_card_says_what_was_measured_and_what_its_author_wrote() -> None:
    component = json.loads(card(facts(), read_author_text(TEXT, "card.toml")))["metadata"][
        "component"
    ]
    model_card = component["modelCard"]

    assert (component["type"], component["name"]) == ("machine-learning-model", "things")
    assert component["hashes"] == [{"alg": "SHA-256", "content": sha256(b"model")}]
    assert model_card["modelParameters"]["task"] == "classification"
    assert model_card["modelParameters"]["inputs"][0]["format"].startswith(
        "x: FP32 [N, 4], numeric"
    )
    assert model_card["quantitativeAnalysis"]["performanceMetrics"] == [
        {"type": "accuracy", "value": "0.95"},
        {"type": "macro_f1", "value": "0.9"},
    ]
    assert model_card["considerations"]["technicalLimitations"] == ["Knows three kinds only"]
    assert {"name": "muster:lineage:parent", "value": "things/2"} in component["properties"]


def test_people_read_a_card_as_a_page() -> None:
    page = markdown(card(facts(), read_author_text(TEXT, "card.toml")))

    for line in (
        "# things/3",
        "Tells three kinds of things apart.",
        "Task: classification",
        "* accuracy: 0.95",
        "## Technical limitations",
        "* None known: Look again",
        "* lineage:parent: things/2",
    ):
        assert line in page.splitlines()


COMPARED: dict[str, Any] = {
    "parent": "things/2",
    "parent_metrics": {"accuracy": 0.4, "macro_f1": 0.3},
}
ORIGIN = Origin("examples that 5 devices hold out", {"run": "fl-7", "devices": "5"})


def test_parent_and_version_stand_side_by_side_on_the_same_rows() -> None:
    document = card(facts(**COMPARED), AuthorText())

    assert objections(document) is None
    assert parent_metrics(document) == COMPARED["parent_metrics"]
    assert "* accuracy: 0.95" in markdown(document).splitlines()
    assert "* accuracy: 0.4 (things/2 on the same rows)" in markdown(document).splitlines()
    assert parent_metrics(card(facts(), AuthorText())) == {}


def test_a_card_says_on_what_and_by_whom_a_version_was_trained() -> None:
    document = card(facts(origin=ORIGIN), AuthorText())

    assert objections(document) is None
    page = markdown(document).splitlines()
    assert "* federated:run: fl-7" in page
    data = "* examples that 5 devices hold out: 40 rows, on which the metrics were measured"
    assert data in page


def test_what_an_author_wrote_can_be_read_back_but_for_the_data() -> None:
    text = read_author_text(TEXT, "card.toml")

    assert author_text(card(facts(), text)) == msgspec.structs.replace(text, data="")
    assert author_text(card(facts(), AuthorText())) == AuthorText()


def test_an_authors_markdown_is_the_description_as_it_stands() -> None:
    assert read_author_text("# Über\n\nText\n".encode(), "card.md").description == "# Über\n\nText"


def test_a_risk_may_stand_without_a_mitigation() -> None:
    document = card(facts(), AuthorText(ethical_considerations=(Risk(name="Who knows"),)))

    assert objections(document) is None
    assert "* Who knows" in markdown(document).splitlines()


@pytest.mark.parametrize(
    ("data", "file", "reason"),
    [
        (b"\xff", "card.md", r"card.md: not UTF-8"),
        (b"users = [", "card.toml", r"card.toml: "),
        (b"users = 'Ann'", "card.toml", r"card.toml: Expected `array`.*users"),
        (b"audience = 'Ann'", "card.toml", r"card.toml: .*unknown field `audience`"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_naming_file_and_key(
    data: bytes, file: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_author_text(data, file)


def test_a_text_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge, match=r"card.md: 300,000 bytes"):
        read_author_text(b"a" * 300_000, "card.md")
