"""Training gives way to requests, and its own time does not pass meanwhile."""

from hypothesis import given
from hypothesis import strategies as st

from agent.federated.yielding import Pace, asked, looked

QUIET = 0.5


def test_a_request_stops_it_at_once_and_quiet_lets_it_go_on() -> None:
    pace = Pace(running=True, since=10.0)

    pace = asked(pace, 12.0)
    assert not pace.running
    pace = looked(pace, 1, 13.0, QUIET)
    pace = looked(pace, 0, 14.0, QUIET)
    assert not pace.running, "it has been quiet for no time yet"
    pace = asked(pace, 14.4)
    pace = looked(pace, 0, 14.6, QUIET)
    assert not pace.running, "the request in between began the quiet anew"
    pace = looked(pace, 0, 15.2, QUIET)

    assert pace.running
    assert (pace.ran_until(16.0), pace.waited_until(16.0)) == (2.0 + 16.0 - 15.2, 15.2 - 12.0)


def test_what_was_under_way_already_stops_it() -> None:
    assert not looked(Pace(running=True, since=0.0), 1, 1.0, QUIET).running
    assert looked(Pace(running=True, since=0.0), 0, 1.0, QUIET) == Pace(running=True, since=0.0)


@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.sampled_from(["ask", "look"]), st.integers(0, 2)), max_size=40
    )
)
def test_all_time_is_either_running_or_waiting(
    steps: list[tuple[float, str, int]],
) -> None:
    pace, now, last_busy = Pace(running=True, since=0.0), 0.0, -1.0
    for passed, what, under_way in steps:
        now += passed
        pace = asked(pace, now) if what == "ask" else looked(pace, under_way, now, QUIET)
        if what == "ask" or under_way:
            last_busy = now
            assert not pace.running
        if pace.running and last_busy >= 0:
            assert now - last_busy >= QUIET
        assert abs(pace.ran_until(now) + pace.waited_until(now) - now) < 1e-9
