"""Durations, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.toml_file.duration import seconds_of, written


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("30m", 1800),
        ("24h", 86_400),
        ("7d", 604_800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2w", 1_209_600),
        ("0s", 0),
    ],
)
def test_a_duration_is_seconds_or_text(text: object, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "30 m", "m", "-1h", "1H", "1h ", "1e3s", True, None, [1]]
)
def test_anything_else_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="must be seconds, or text such as 30m"):
        seconds_of(text)


@given(st.integers(0, 10**8))
def test_what_is_written_reads_the_same(seconds: int) -> None:
    assert seconds_of(written(seconds)) == seconds


def test_it_is_written_as_people_say_it() -> None:
    assert [written(one) for one in (0, 59, 5400, 86_400, 90_061)] == [
        "0s",
        "59s",
        "1h30m",
        "1d",
        "1d1h1m1s",
    ]
