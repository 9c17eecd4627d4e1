"""What a terminal, or a file, gets of a text that changes."""

import pytest

from controller.cli.display import display, fitting, growing_display

STORY = "\n".join(["digits-r1: running", *(f"  round {number}" for number in range(1, 10))])


def test_a_file_gets_every_new_text_once(capsys: pytest.CaptureFixture[str]) -> None:
    with display() as show:
        for text in ("one", "one", "two", "one"):
            show(text)

    assert capsys.readouterr().out.splitlines() == ["one", "two", "one"]


def test_of_a_text_that_grows_a_file_gets_every_line_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with growing_display("  under way") as show:
        show("running, 0 of 2\n  under way: 0 of 4")
        show("running, 0 of 2\n  under way: 3 of 4")
        show("running, 1 of 2\n  round 1: good\n  under way: 0 of 4")
        show("finished, 2 of 2\n  round 1: good\n  round 2: better")

    assert capsys.readouterr().out.splitlines() == [
        "running, 0 of 2",
        "running, 1 of 2",
        "  round 1: good",
        "finished, 2 of 2",
        "  round 2: better",
    ]


def test_a_terminal_shows_the_beginning_and_as_much_of_the_end_as_it_has_room_for() -> None:
    assert fitting(STORY, width=80, height=24) == STORY
    assert fitting(STORY, width=80, height=5).split("\n") == [
        "digits-r1: running",
        "  …",
        "  round 7",
        "  round 8",
        "  round 9",
    ]


def test_a_line_that_is_too_long_for_a_row_takes_several() -> None:
    long = "  round 1: one two three four"
    text = f"head\n{long}\n{long}"

    assert fitting(text, width=18, height=4).split("\n") == [
        "head",
        "  …",
        "  round 1: one two",
        "      three four",
    ]
