"""Small values of the simulator, one by one."""

import pytest

from simulations.fleet import duration
from simulations.fleet.queue import Queue
from simulations.fleet.study import CASES, HALF_AND_HALF, RULES, Job, Rate, decide
from simulations.fleet.tally import MOST_POINTS, Doing, Part, Tally
from simulations.fleet.track import Span, Track
from simulations.fleet.transcript import likeness


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1d12h", 129_600), ("250ms", 0.25), ("1.5h", 5400)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert duration.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "5 m", "-5m", "5y"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        duration.seconds(text)


def test_times_are_written() -> None:
    assert [duration.worded(one) for one in (0, 59, 3600, 129_600)] == ["0s", "59s", "1h", "1d12h"]
    assert duration.clock(183_605) == "2d 03:00:05"


def test_what_is_due_at_once_happens_in_the_order_in_which_it_was_asked_for() -> None:
    queue, done = Queue(), list[str]()
    queue.after(5, lambda: done.append("later"))
    queue.after(1, lambda: queue.after(0, lambda: done.append("then")))
    queue.after(1, lambda: done.append("first"))
    queue.at(-3, lambda: done.append("now"))

    queue.run(4)

    assert (done, queue.now) == (["now", "first", "then"], 4)


def test_a_tally_keeps_so_many_points_however_long_it_runs() -> None:
    queue = Queue()
    tally = Tally(queue)
    part = Part(Doing.RUNS, "digits/1")

    def changed() -> None:
        tally.move(None, part)
        tally.note()

    for second in range(20_000):
        queue.at(float(second), changed)
    queue.run(30_000)

    assert MOST_POINTS / 4 < len(tally.points) <= MOST_POINTS + 1
    assert tally.points[-1].parts == {part: 20_000}


def test_a_state_that_stays_is_one_span() -> None:
    track = Track()

    turned = [track.note(at, "a", state) for at, state in ((1, "x"), (2, "x"), (5, "y"))]

    assert turned == [True, False, True]
    assert track.lanes(9) == {"a": [Span(1, 5, "x"), Span(5, 9, "y")]}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("canary: 3 install", "canary: 2 install, 1 soak, 3 min left", True),
        ("canary: 3 soak, 9 min left", "canary: 3 soak, 2 min left", True),
        ("canary: 3 install", "canary: 3 soak, 2 min left", False),
        ("canary: 3 install", "half: 3 install", False),
        ("canary: grows from 3 to 4", "canary: grows from 4 to 6", False),
        ("assigned: device-001", "assigned: device-003, device-004 and 7 more", True),
        ("2 of 9 have proven that they are back", "9 of 9 have proven that they are back", True),
    ],
)
def test_a_sentence_that_only_counts_on_is_no_news(one: str, other: str, alike: bool) -> None:
    assert (likeness(one) == likeness(other)) == alike


def test_a_rate_has_its_interval() -> None:
    assert str(Rate(0, 300)) == "0.0 % (0.0 to 1.2)"
    assert Rate(3, 3).interval[1] == 1.0


def test_the_rule_of_half_and_half_stops_what_fails_on_most_and_nothing_else() -> None:
    assert [one.percent for one in HALF_AND_HALF.stages] == [10.0, 50.0, 100.0]
    case = next(at for at, one in enumerate(CASES) if one.name == "fails on 25 % of devices")

    found = {rule: decide(Job(case, rule, 40, 3)) for rule in RULES}

    assert found["default policy"].stopped
    assert not found["50 % / 50 %"].stopped
    assert found["50 % / 50 %"].met == 40
