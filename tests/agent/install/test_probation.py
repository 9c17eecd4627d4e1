"""When a version is proven, and when it is given up."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.install.gates import shadow_gate
from agent.install.machine import State
from agent.install.ports import TrafficSnapshot
from agent.install.probation import ProbationPolicy, Verdict, judge, wilson_lower
from protos.manifest import Budgets
from tests.agent.install.installs import install

POLICY = ProbationPolicy(minimum_seconds=5, minimum_requests=50, maximum_seconds=60)
BUDGETS = Budgets(latency_p99_seconds=0.010, memory_bytes=1)


@pytest.mark.parametrize(
    ("requests", "failed", "p99", "seconds", "verdict"),
    [
        (0, 0, 0.0, 10, Verdict.UNDECIDED),
        (0, 0, 0.0, 60, Verdict.PASSED),  # nobody asked: nothing to hold against it
        (1000, 0, 0.001, 4, Verdict.UNDECIDED),  # too soon
        (50, 0, 0.001, 5, Verdict.PASSED),
        (49, 0, 0.001, 5, Verdict.UNDECIDED),
        (49, 0, 0.001, 60, Verdict.PASSED),
        (3, 1, 0.001, 10, Verdict.UNDECIDED),  # one of three does not kill
        (3, 1, 0.001, 60, Verdict.PASSED),
        (2, 2, 0.0, 10, Verdict.UNDECIDED),
        (2, 2, 0.0, 60, Verdict.FAILED),  # it never answered anything
        (3, 3, 0.0, 1, Verdict.FAILED),  # certain at once
        (100, 2, 0.001, 10, Verdict.PASSED),
        (100, 3, 0.001, 10, Verdict.UNDECIDED),  # above the share, but not for certain
        (100, 3, 0.001, 60, Verdict.PASSED),
        (100, 10, 0.001, 10, Verdict.FAILED),
        (100, 0, 0.019, 10, Verdict.PASSED),  # within what the histogram can tell
        (100, 0, 0.021, 10, Verdict.FAILED),
        (99, 0, 9.0, 10, Verdict.PASSED),  # too few for a p99
    ],
)
def test_probation(
    requests: int, failed: int, p99: float, seconds: float, verdict: Verdict
) -> None:
    found = judge(POLICY, BUDGETS, TrafficSnapshot(requests, failed, p99), seconds)

    assert found.verdict is verdict
    assert found.reason


@pytest.mark.parametrize(
    ("hits", "trials", "expected"),
    [
        (0, 0, 0.0), (0, 1, 0.0), (1, 1, 0.269865948784), (1, 3, 0.078265726334),
        (3, 3, 0.525804425842), (3, 100, 0.012051814249), (10, 100, 0.060718667015),
        (50, 100, 0.418847796113), (100, 100, 0.973657279217), (21, 1000, 0.014733117815),
        (1999, 2000, 0.997761960751),
    ],
)  # fmt: skip
def test_the_lower_bound_is_wilsons(hits: int, trials: int, expected: float) -> None:
    """From scipy.stats.binomtest(hits, trials).proportion_ci(0.90, method="wilson").low."""
    assert wilson_lower(hits, trials) == pytest.approx(expected, abs=1e-12)


@given(
    requests=st.integers(0, 500), failed=st.integers(0, 500), seconds=st.floats(0, 100),
)  # fmt: skip
@settings(max_examples=100)
def test_every_probation_ends_and_more_failures_never_help(
    requests: int, failed: int, seconds: float
) -> None:
    traffic = TrafficSnapshot(requests, min(failed, requests), 0.001)
    found = judge(POLICY, BUDGETS, traffic, seconds).verdict
    if seconds >= POLICY.maximum_seconds:
        assert found is not Verdict.UNDECIDED
    if found is Verdict.FAILED and traffic.failed < requests:
        worse = msgspec.structs.replace(traffic, failed=traffic.failed + 1)
        assert judge(POLICY, BUDGETS, worse, seconds).verdict is Verdict.FAILED


def test_no_shadow_is_asked_for() -> None:
    assert shadow_gate(install(State.SHADOW)) == "no shadow asked for digits/2"
