"""How often each device may ask: by itself, and for no longer than it matters."""

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.transport.pace import Pace
from controller.transport.token_bucket import Rate

RATE = Rate(burst=5, per_second=2.0)

asked = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.floats(0, 3)), min_size=1, max_size=80
)


@given(asked)
@settings(max_examples=100, deadline=None)
def test_each_device_has_its_burst_and_its_rate_and_no_more(calls: list[tuple[str, float]]) -> None:
    pace, now = Pace(RATE), 0.0
    taken: dict[str, int] = {}
    for device, seconds in calls:
        now += seconds
        if not pace.wait_ms(device, now):
            taken[device] = taken.get(device, 0) + 1

    assert all(many <= RATE.burst + RATE.per_second * now + 1e-6 for many in taken.values())
    assert taken.keys() == {device for device, _ in calls}  # nobody takes another's turn


@given(asked)
@settings(max_examples=100, deadline=None)
def test_who_waits_as_long_as_it_was_told_is_heard(calls: list[tuple[str, float]]) -> None:
    pace, now = Pace(RATE), 0.0
    for device, seconds in calls:
        now += seconds
        wait_ms = pace.wait_ms(device, now)
        assert 0 <= wait_ms <= 1 + 1000 / RATE.per_second
        if wait_ms:
            now += wait_ms / 1000
            assert pace.wait_ms(device, now) == 0


def test_who_has_rested_is_forgotten() -> None:
    pace = Pace(RATE)
    for number in range(1000):
        pace.wait_ms(f"d{number}", 0.0)
    assert len(pace) == 1000

    pace.wait_ms("d1", 10.0)

    assert len(pace) == 1


def test_to_ask_in_vain_costs_nothing_more() -> None:
    pace = Pace(RATE)
    waits = [pace.wait_ms("a", 0.0) for _ in range(50)]

    assert waits == [0] * 5 + [501] * 45
    assert pace.wait_ms("a", 0.5) == 0
