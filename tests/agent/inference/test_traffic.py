import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.latency import BUCKETS, bucket_of, quantile
from agent.inference.traffic import Traffic, TrafficCounts
from protos.limits import LATENCY_BUCKETS_SECONDS

SECONDS = st.lists(st.floats(1e-7, 100.0), min_size=1, max_size=50)


def counts_of(seconds: list[float]) -> list[int]:
    counts = [0] * BUCKETS
    for one in seconds:
        counts[bucket_of(one)] += 1
    return counts


@pytest.mark.parametrize("bound", LATENCY_BUCKETS_SECONDS)
def test_a_bound_belongs_to_the_bucket_that_it_ends(bound: float) -> None:
    index = LATENCY_BUCKETS_SECONDS.index(bound)

    assert bucket_of(bound) == index
    assert bucket_of(bound * 1.001) == index + 1


def test_no_requests_have_no_quantile() -> None:
    assert quantile([0] * BUCKETS, 0.99) is None
    assert TrafficCounts().p99_seconds is None


@settings(max_examples=200, deadline=None)
@given(seconds=SECONDS, q=st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(seconds: list[float], q: float) -> None:
    true = float(np.quantile(seconds, q, method="inverted_cdf"))

    estimate = quantile(counts_of(seconds), q)

    assert estimate is not None
    bucket = bucket_of(true)
    lower = LATENCY_BUCKETS_SECONDS[bucket - 1] if bucket else 0.0
    upper = LATENCY_BUCKETS_SECONDS[min(bucket, BUCKETS - 2)]
    assert min(lower, upper) * 0.999 <= estimate <= upper * 1.001


@settings(max_examples=100, deadline=None)
@given(seconds=SECONDS)
def test_quantiles_do_not_fall(seconds: list[float]) -> None:
    counts = counts_of(seconds)
    values = [quantile(counts, q) or 0.0 for q in (0.1, 0.5, 0.9, 0.99, 1.0)]

    assert values == sorted(values)


def test_totals_count_each_request_once_by_how_it_ended() -> None:
    traffic = Traffic()
    traffic.answered(0.001)
    traffic.answered(0.003)
    traffic.failed()
    traffic.refused()

    totals = traffic.totals()

    assert (totals.requests, totals.failed, totals.refused) == (3, 1, 1)
    assert sum(totals.latency_counts) == 2
    assert totals.latency_sum_seconds == pytest.approx(0.004)


def test_differences_of_totals_add_up_to_the_totals() -> None:
    traffic = Traffic()
    traffic.answered(0.001)
    first = traffic.totals()
    traffic.answered(0.001)
    traffic.failed()

    second = traffic.totals().since(first)

    assert (second.requests, second.failed) == (2, 1)
    assert traffic.totals().since(TrafficCounts()) == traffic.totals()
