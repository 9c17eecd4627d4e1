import pytest

from agent.hours import daily_window


@pytest.mark.parametrize(
    ("text", "start", "minutes"),
    [
        ("08:00-17:30", 480, 570),
        ("22:00-06:00", 1320, 480),
        ("00:00-24:00", 0, 1440),
        ("22:15-24:00", 1335, 105),
        ("05:00-05:00", 300, 1440),
    ],
)
def test_hours_open_every_day(text: str, start: int, minutes: int) -> None:
    window = daily_window(text)

    assert window is not None
    assert (window.start_minute, window.minutes, window.days) == (start, minutes, ())


@pytest.mark.parametrize(
    "text", ["", "8:00-9:00", "24:00-25:00", "08:60-09:00", "08:00-09:00\n", "x"]
)
def test_what_are_no_hours(text: str) -> None:
    assert daily_window(text) is None
