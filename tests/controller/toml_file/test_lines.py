"""Every key is found in its own line, however the document is written."""

import tomllib
from collections.abc import Iterator

from hypothesis import given

from controller.toml_file.lines import Path, key_lines, line_of
from tests.controller.fleet_config.documents import documents


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for part, inner in inside:
        yield (*path, part)
        yield from paths(inner, (*path, part))


@given(documents())
def test_each_key_has_the_line_in_which_it_was_written(made: tuple[str, dict[Path, int]]) -> None:
    text, lines = made

    assert key_lines(text) == lines
    assert set(lines) == set(paths(tomllib.loads(text)))


def test_a_table_above_may_be_written_after_those_within() -> None:
    text = "[a.b]\nx = 1\n[a]\ny = 2\n[[c]]\n[[c.d]]\nz = [1]\n[[c]]\n[c.d]\n"

    assert key_lines(text) == {
        ("a",): 1,
        ("a", "b"): 1,
        ("a", "b", "x"): 2,
        ("a", "y"): 4,
        ("c",): 5,
        ("c", 0): 5,
        ("c", 0, "d"): 6,
        ("c", 0, "d", 0): 6,
        ("c", 0, "d", 0, "z"): 7,
        ("c", 0, "d", 0, "z", 0): 7,
        ("c", 1): 8,
        ("c", 1, "d"): 9,
    }


def test_what_is_not_there_has_the_line_of_what_it_is_missing_from() -> None:
    lines = key_lines('\n[fleet]\nname = "x"\n')

    assert line_of(lines, ("fleet", "selector")) == 2
    assert line_of(lines, ("fleet", "name")) == 3
    assert line_of(lines, ("models",)) == 1
