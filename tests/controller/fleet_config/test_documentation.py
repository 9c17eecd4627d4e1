"""The reference and the editors' schema are made from the classes; run this file to make them anew."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from controller.fleet_config.reference import SCHEMA_NAME, fleet_schema, reference_text
from controller.rollout.gate.expression import QUANTITIES

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "docs" / "fleet_files.md"
SCHEMA = ROOT / "fleet_configs" / SCHEMA_NAME
HEADING = "## Every key\n\n"
SMALLEST = '[fleet]\nname = "f"\nselector = "all"\n[[models]]\nname = "m"\nversion = "m/1"\n'


def test_the_reference_is_current() -> None:
    assert REFERENCE.read_text().split(HEADING)[1] == reference_text()


def test_every_quantity_of_an_expression_is_told() -> None:
    told = REFERENCE.read_text().split(HEADING)[0]

    assert [name for name in QUANTITIES if f"`{name}`" not in told] == []


def test_the_schema_is_current() -> None:
    assert SCHEMA.read_text() == fleet_schema()


def schema() -> Any:
    return json.loads(fleet_schema())


@pytest.mark.parametrize("name", ["meters.toml", "small.toml"])
def test_the_schema_accepts_what_is_shipped(name: str) -> None:
    document = tomllib.loads((ROOT / "fleet_configs" / name).read_text())

    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(json.loads(json.dumps(document)), schema())


@pytest.mark.parametrize(
    "wrong",
    [
        "[pacce]",
        "[pace]\nper_minutes = 3",
        "[budget]\nfailed = 2",
        '[budget]\nsilence = "soon"',
        '[[gates]]\nmetric = "drift"',
        '[[gates]]\nmetric = "speed"\nlimit = 1',
        '[[stages]]\nname = "all"',
        '[[stages]]\nname = "all"\npercent = 100\ncount = 3',
        '[[conditions.windows]]\nstart = "25:00"\nduration = "4h"',
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(wrong: str) -> None:
    document = tomllib.loads(SMALLEST)
    jsonschema.validate(document, schema())

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, **tomllib.loads(wrong)}, schema())


if __name__ == "__main__":
    head = REFERENCE.read_text().split(HEADING)[0]
    REFERENCE.write_text(head + HEADING + reference_text())
    SCHEMA.write_text(fleet_schema())
