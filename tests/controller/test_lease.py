from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.lease import Lease, asked, takes

HELD = Lease("rollouts", "one", 100.0, 130.0)


@pytest.mark.parametrize(
    ("lease", "holder", "now", "expected"),
    [
        (None, "two", 0.0, True),
        (HELD, "one", 110.0, True),
        (HELD, "one", 1e9, True),
        (HELD, "one", 0.0, True),
        (HELD, "two", 129.999, False),
        (HELD, "two", 130.0, True),
        (HELD, "two", 0.0, False),  # the clock was set back
    ],
)
def test_a_lease_is_taken_by_its_holder_or_once_it_has_run_out(
    lease: Lease | None, holder: str, now: float, expected: bool
) -> None:
    assert takes(lease, holder, now) is expected


def test_who_may_not_take_it_changes_nothing_while_the_clock_runs() -> None:
    assert asked(HELD, Lease("rollouts", "two", 129.0, 159.0)) == HELD


def test_a_lease_from_the_future_runs_anew_from_now() -> None:
    stands = asked(HELD, Lease("rollouts", "two", 40.0, 70.0))

    assert stands == replace(HELD, taken_at=40.0, until=70.0)


@given(
    turns=st.lists(
        st.tuples(st.floats(-1e6, 60.0), st.sampled_from(["one", "two", "three"])), max_size=20
    )
)
def test_whatever_the_clock_does_a_lease_lasts_no_longer_than_granted(
    turns: list[tuple[float, str]],
) -> None:
    now, lease = 1e8, None

    for step, holder in turns:
        now += step
        before = lease
        lease = asked(before, Lease("rollouts", holder, now, now + 30.0))
        assert lease.until <= now + 30.0
        assert (lease.holder == holder) is takes(before, holder, now)
        if before is not None and now < before.until:
            assert before.holder in {holder, lease.holder}
