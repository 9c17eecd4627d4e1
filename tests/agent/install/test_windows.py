"""When windows are open, by the wall clock of a device."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.install.windows import opening_words, opens, wait_words
from protos.documents import Conditions, Directive, Window, decode
from protos.errors import DocumentError

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY, FRIDAY, SATURDAY, SUNDAY = 0, 4, 5, 6
HOUR = 60
NIGHT = Window(start_minute=22 * HOUR, minutes=8 * HOUR)
ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"]


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


def night(*days: int) -> Window:
    return Window(start_minute=22 * HOUR, minutes=8 * HOUR, days=days)


def small_hours(minutes: int, hour: int = 2, minute: int = 0, *days: int) -> Window:
    return Window(start_minute=hour * HOUR + minute, minutes=minutes, days=days)


# 2026-11-21 is a Saturday. In 2026 Berlin's clocks go from 02:00 to 03:00 on Sunday, 29 March, and from
# 03:00 back to 02:00 on Sunday, 25 October.
@pytest.mark.parametrize(
    ("window", "now", "opening"),
    [
        (NIGHT, berlin("2026-11-21 21:59:59"), berlin("2026-11-21 22:00")),
        (NIGHT, berlin("2026-11-21 22:00"), None),
        (NIGHT, berlin("2026-11-22 00:00"), None),
        (NIGHT, berlin("2026-11-22 05:59:59"), None),
        (NIGHT, berlin("2026-11-22 06:00"), berlin("2026-11-22 22:00")),
        (night(SATURDAY), berlin("2026-11-22 05:59"), None),
        (night(SATURDAY), berlin("2026-11-22 22:00"), berlin("2026-11-28 22:00")),
        (night(SATURDAY), berlin("2026-11-21 18:48"), berlin("2026-11-21 22:00")),
        (night(MONDAY, FRIDAY), berlin("2026-11-21 06:00"), berlin("2026-11-23 22:00")),
        (night(FRIDAY), berlin("2026-11-21 05:00"), None),
        # A week and a day are always open; a day less is shut on the day after its days.
        (Window(start_minute=0, minutes=7 * 24 * HOUR), berlin("2026-11-21 12:00"), None),
        (Window(start_minute=9 * HOUR, minutes=24 * HOUR), berlin("2026-11-21 08:59:59"), None),
        (
            Window(start_minute=0, minutes=6 * 24 * HOUR, days=(MONDAY,)),
            berlin("2026-11-22 12:00"),
            berlin("2026-11-23 00:00"),
        ),
        (Window(start_minute=0, minutes=6 * 24 * HOUR, days=(MONDAY,)), berlin("2026-11-21 23:59"), None),
        # The clock goes forward: the night still ends at six.
        (NIGHT, berlin("2026-03-29 05:59"), None),
        (NIGHT, berlin("2026-03-29 06:00"), berlin("2026-03-29 22:00")),
        (NIGHT, berlin("2026-03-28 21:00"), berlin("2026-03-28 22:00")),
        # What begins in the hour that is skipped begins as much later.
        (small_hours(2 * HOUR, minute=30), berlin("2026-03-29 01:59"), berlin("2026-03-29 03:30")),
        (small_hours(2 * HOUR, minute=30), berlin("2026-03-29 04:29"), None),
        (small_hours(2 * HOUR, minute=30), berlin("2026-03-29 04:30"), berlin("2026-03-30 02:30")),
        # What is skipped whole is open for its length all the same.
        (small_hours(HOUR, 2, 0, SUNDAY), berlin("2026-03-29 01:59"), berlin("2026-03-29 03:00")),
        (small_hours(HOUR, 2, 0, SUNDAY), berlin("2026-03-29 03:59"), None),
        (small_hours(HOUR, 2, 0, SUNDAY), berlin("2026-03-29 04:00"), berlin("2026-04-05 02:00")),
        # What ends in the hour that is skipped ends as much later.
        (small_hours(HOUR, 1, 30), berlin("2026-03-29 03:29"), None),
        (small_hours(HOUR, 1, 30), berlin("2026-03-29 03:30"), berlin("2026-03-30 01:30")),
        # The clock goes back: an hour comes twice, and the first one counts.
        (NIGHT, berlin("2026-10-25 02:30", fold=1), None),
        (NIGHT, berlin("2026-10-25 06:00"), berlin("2026-10-25 22:00")),
        (small_hours(30, minute=15), berlin("2026-10-25 02:20"), None),
        (small_hours(30, minute=15), berlin("2026-10-25 02:20", fold=1), berlin("2026-10-26 02:15")),
        (small_hours(HOUR), berlin("2026-10-25 02:30", fold=1), None),
    ],
)  # fmt: skip
def test_a_window_is_open_by_the_wall_clock(
    window: Window, now: datetime, opening: datetime | None
) -> None:
    assert opens([window], now) == opening


def test_the_first_of_several_windows_decides() -> None:
    windows = [night(SUNDAY), night(SATURDAY), small_hours(HOUR, 4)]

    assert opens(windows, berlin("2026-11-21 12:00")) == berlin("2026-11-21 22:00")
    assert opens(windows, berlin("2026-11-23 04:30")) is None
    assert opens([], berlin("2026-11-23 04:30")) is None


def test_the_zone_of_the_device_decides() -> None:
    now = datetime(2026, 11, 21, 20, 30, tzinfo=UTC)

    assert opens([NIGHT], now) == datetime(2026, 11, 21, 22, tzinfo=UTC)
    assert opens([NIGHT], now.astimezone(BERLIN)) == datetime(2026, 11, 21, 21, tzinfo=UTC)
    assert opens([NIGHT], now.astimezone(ZoneInfo("Asia/Tokyo"))) is None


windows = st.builds(
    Window,
    start_minute=st.integers(0, 24 * HOUR - 1),
    minutes=st.integers(1, 7 * 24 * HOUR),
    days=st.sets(st.integers(0, 6)).map(lambda days: tuple(sorted(days))),
)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2031, 1, 1))  # noqa: DTZ001 - a wall clock


@given(st.lists(windows, min_size=1, max_size=3), moments)
@settings(max_examples=200)
def test_where_no_clock_changes_the_wall_clock_alone_decides(
    asked: list[Window], moment: datetime
) -> None:
    def is_open(window: Window) -> bool:
        midnights = (datetime.combine(moment, datetime.min.time()) - timedelta(d) for d in range(9))
        begins = (
            midnight + timedelta(minutes=window.start_minute)
            for midnight in midnights
            if not window.days or midnight.weekday() in window.days
        )
        return any(begin <= moment < begin + timedelta(minutes=window.minutes) for begin in begins)

    opening = opens(asked, moment.replace(tzinfo=UTC))

    assert (opening is None) == any(is_open(window) for window in asked)


@given(st.lists(windows, min_size=1, max_size=3), moments, st.sampled_from(ZONES), st.floats(0, 1))
@example([small_hours(HOUR, 2, 0, SUNDAY)], datetime(2026, 3, 29, 0, 59), "Europe/Berlin", 0.99)  # noqa: DTZ001
@settings(max_examples=300)
def test_the_opening_that_is_told_is_the_next_one(
    asked: list[Window], moment: datetime, zone: str, share: float
) -> None:
    now = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    opening = opens(asked, now)
    if opening is None:
        return

    instant = opening.astimezone(UTC)
    wait = instant - now.astimezone(UTC)
    assert timedelta(0) < wait <= timedelta(days=8)
    assert opens(asked, instant.astimezone(opening.tzinfo)) is None
    between = (now.astimezone(UTC) + share * wait).astimezone(opening.tzinfo)
    assert between.astimezone(UTC) == instant or opens(asked, between) == opening


@pytest.mark.parametrize("minutes", [-5, 0, 10**12])
@pytest.mark.parametrize("days", [(), (3,), (9,)])
@pytest.mark.parametrize("year", [1, 2026, 9999])
def test_a_window_that_nobody_may_ask_for_still_gives_an_answer(
    minutes: int, days: tuple[int, ...], year: int
) -> None:
    now = datetime(year, 6, 1, 12, tzinfo=BERLIN)

    opening = opens([Window(start_minute=90, minutes=minutes, days=days)], now)

    assert opening is None or opening > now


@pytest.mark.parametrize(
    "window",
    [
        {"start_minute": 0, "minutes": 0},
        {"start_minute": 0, "minutes": 7 * 24 * 60 + 1},
        {"start_minute": -1, "minutes": 5},
        {"start_minute": 24 * 60, "minutes": 5},
        {"start_minute": 0, "minutes": 5, "days": [7]},
    ],
)
def test_a_directive_with_an_impossible_window_is_none(window: dict[str, object]) -> None:
    assignment = {"model": "m", "version": 1, "target": "t", "sha256": "a", "length": 1}
    conditions = {"windows": [window]}
    wanted = {"device": "d", "generation": 1, "issued_at": 0, "assignments": [
        {**assignment, "conditions": conditions}
    ]}  # fmt: skip

    with pytest.raises(DocumentError, match=r"conditions\.windows"):
        decode(msgspec.json.encode(wanted), Directive)


def test_conditions_are_signed_as_they_are_meant() -> None:
    conditions = Conditions(windows=(NIGHT,), battery_percent=40, unmetered=True)

    assert msgspec.json.decode(msgspec.json.encode(conditions), type=Conditions) == conditions


def test_openings_and_waits_are_told_in_words() -> None:
    assert opening_words(berlin("2026-11-21 22:00")) == "opens on Saturday 22:00 Europe/Berlin"
    assert opening_words(datetime(2026, 11, 23, 4, 5, tzinfo=UTC)) == "opens on Monday 04:05 UTC"
    assert [wait_words(s) for s in (0, 1, 60, 3599, 3 * 3600 + 12 * 60, 90000, 604800)] == [
        "in 0 min", "in 1 min", "in 1 min", "in 1 h 0 min", "in 3 h 12 min", "in 1 d 1 h",
        "in 7 d 0 h",
    ]  # fmt: skip
