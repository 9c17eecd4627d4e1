"""Whatever is wrong with a file, it is told by line, and never as a traceback."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.fleet_config.document import FleetFile
from controller.fleet_config.reading import BadFleetFile, read_fleet
from controller.toml_file.keys import shown_key
from controller.toml_file.lines import Path as Place
from controller.toml_file.lines import key_lines
from tests.controller.fleet_config.documents import documents

TEXT = (Path(__file__).parents[3] / "fleet_configs" / "meters.toml").read_text()
LINES = TEXT.split("\n")
PAIR = re.compile(r"(?P<key>[a-z_]+) = (?P<value>.*?)(?P<rest> *(#.*)?)")


def leaves() -> list[tuple[Place, int]]:
    """The keys of the shipped file that have a line of their own, and a plain value."""
    return [
        (place, line)
        for place, line in key_lines(TEXT).items()
        if (pair := PAIR.fullmatch(LINES[line - 1])) and pair["key"] == place[-1]
    ]


def with_line(number: int, text: str) -> str:
    return "\n".join([*LINES[: number - 1], text, *LINES[number:]])


def told(text: str) -> BadFleetFile:
    with pytest.raises(BadFleetFile) as caught:
        read_fleet(text, "f.toml")
    return caught.value


def test_the_shipped_file_has_keys_of_every_kind() -> None:
    assert len(leaves()) > 40
    assert {type(place[-2]) for place, _ in leaves()} == {str, int}


@pytest.mark.parametrize(("place", "line"), leaves(), ids=str)
@pytest.mark.parametrize("wrong", ["{ x = 1 }", "[[1]]", "07:32:00", "nan", '"\\u0000"'])
def test_a_wrong_value_is_told_with_the_line_and_the_key_that_it_has(
    place: Place, line: int, wrong: str
) -> None:
    pair = PAIR.fullmatch(LINES[line - 1])
    assert pair is not None
    text = with_line(line, f"{pair['key']} = {wrong}{pair['rest']}")
    if place == ("fleet", "description") and wrong.startswith('"'):
        assert read_fleet(text, "f.toml").description == "\0"
        return

    found = told(text)

    assert (line, shown_key(place, FleetFile)) in {(one.line, one.key) for one in found.problems}
    assert all(one.line == line for one in found.problems)


@pytest.mark.parametrize(("place", "line"), leaves(), ids=str)
def test_an_unknown_key_is_told_with_its_line_and_what_may_have_been_meant(
    place: Place, line: int
) -> None:
    key = str(place[-1])
    found = told(with_line(line, LINES[line - 1].replace(key, f"{key}x", 1)))

    (problem,) = [one for one in found.problems if "no such key" in one.what]
    assert problem.line == line
    assert problem.remedy == f"did you mean `{key}`?"


@given(documents())
def test_any_document_that_is_no_fleet_is_refused_in_words(made: tuple[str, Any]) -> None:
    found = told(made[0])

    last = 1 + made[0].count("\n")
    assert all(1 <= one.line <= last and one.what for one in found.problems)


@given(
    st.integers(0, len(TEXT) - 1), st.sampled_from(['"', "[", "]", "{", "=", "\n", "#", "\0", "x"])
)
def test_a_slip_of_the_hand_anywhere_is_told_or_does_no_harm(at: int, mark: str) -> None:
    text = TEXT[:at] + mark + TEXT[at + 1 :]
    try:
        tomllib.loads(text)
        assert read_fleet(text, "f.toml").goals
    except (tomllib.TOMLDecodeError, BadFleetFile):
        lines = [one.line for one in told(text).problems]
        assert set(lines) <= set(range(1, 3 + TEXT.count("\n")))
