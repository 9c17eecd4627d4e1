"""Whether a version that answers real requests has proven itself.

A single failure of three proves little, so a version is condemned only by several failures whose
share is above the allowed one with confidence: the lower end of Wilson's interval (E. B. Wilson,
Probable inference, JASA 1927), one-sided 95 %. A version that nobody asks anything passes in the end:
there is nothing to hold against it, and its self-test stands.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from agent.install.ports import TrafficSnapshot
from protos.manifest import Budgets

_Z: Final = 1.6448536269514722  # standard normal quantile of 0.95


@dataclass(frozen=True, slots=True)
class ProbationPolicy:
    """How a version is tried on real requests. The defaults are those of ``agent.toml``.

    Attributes:
        minimum_seconds: no version passes sooner.
        minimum_requests: after so many a version may pass.
        maximum_seconds: a version that got fewer requests passes then.
        max_failed_share: of requests that may fail in the runtime.
        minimum_failures: fewer never condemn, unless nothing else came.
        latency_requests: fewer say nothing about a p99.
        latency_slack: p99 may be so many times the budget: the histogram's buckets double, so what
            it says may be twice the truth.
        check_seconds: between two looks.
    """

    minimum_seconds: float = 2.0
    minimum_requests: int = 50
    maximum_seconds: float = 60.0
    max_failed_share: float = 0.02
    minimum_failures: int = 3
    latency_requests: int = 100
    latency_slack: float = 2.0
    check_seconds: float = 0.5


DEFAULT_POLICY: Final = ProbationPolicy()


class Verdict(StrEnum):
    """Three-valued: too little is not enough."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"


class Probation(msgspec.Struct, frozen=True):
    """A verdict, with its reason in words."""

    verdict: Verdict
    reason: str


def judge(
    policy: ProbationPolicy, budgets: Budgets, traffic: TrafficSnapshot, elapsed_seconds: float
) -> Probation:
    """What is to be thought of the version so far."""
    fault = fault_of(policy, budgets, traffic)
    if fault:
        return Probation(Verdict.FAILED, fault)
    if elapsed_seconds >= policy.maximum_seconds:
        if traffic.requests and traffic.failed == traffic.requests:
            return Probation(Verdict.FAILED, f"{_seen(traffic)}: none was answered")
        return Probation(Verdict.PASSED, f"{_seen(traffic)} in {elapsed_seconds:.0f} s")
    doubt = doubt_of(policy, traffic, elapsed_seconds)
    if doubt:
        return Probation(Verdict.UNDECIDED, doubt)
    return Probation(Verdict.PASSED, _seen(traffic))


def fault_of(policy: ProbationPolicy, budgets: Budgets, traffic: TrafficSnapshot) -> str:
    """What condemns the version, however long it ran; empty if nothing does."""
    enough = traffic.failed >= policy.minimum_failures
    if enough and wilson_lower(traffic.failed, traffic.requests) > policy.max_failed_share:
        return f"{_seen(traffic)}; {policy.max_failed_share:.1%} may"
    over_budget = traffic.p99_seconds > policy.latency_slack * budgets.latency_p99_seconds
    if over_budget and traffic.requests >= policy.latency_requests:
        p99, budget = traffic.p99_seconds * 1e3, budgets.latency_p99_seconds * 1e3
        return f"p99 is {p99:.3g} ms; the budget is {budget:.3g} ms"
    return ""


def doubt_of(policy: ProbationPolicy, traffic: TrafficSnapshot, elapsed_seconds: float) -> str:
    """Why the version can't pass yet; empty if it can."""
    if elapsed_seconds < policy.minimum_seconds:
        return f"{_seen(traffic)}; {elapsed_seconds:.1f} s are too few to say"
    if traffic.requests < policy.minimum_requests:
        return f"{traffic.requests} of {policy.minimum_requests} requests"
    if traffic.failed > policy.max_failed_share * traffic.requests:
        return f"{_seen(traffic)}: too many to pass, too few to condemn"
    return ""


def _seen(traffic: TrafficSnapshot) -> str:
    return f"{traffic.failed} of {traffic.requests} requests failed"


def wilson_lower(hits: int, trials: int, z: float = _Z) -> float:
    """The lower end of Wilson's one-sided interval of a share, of 95 %; 0.0 of nothing.

    ``z`` is the standard normal's quantile of another confidence.
    """
    if trials == 0:
        return 0.0
    share, z2 = hits / trials, z * z
    spread = z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    return max(0.0, (share + z2 / (2 * trials) - spread) / (1 + z2 / trials))
