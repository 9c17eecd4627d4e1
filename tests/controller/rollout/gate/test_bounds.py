import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from controller.rollout.gate.bounds import lower_bound, upper_bound, wilson_lower, wilson_upper

CONFIDENCE = st.floats(0.5, 0.9999)


@st.composite
def seen(draw: st.DrawFn, most: int = 1_000) -> tuple[int, int]:
    trials = draw(st.integers(1, most))
    return draw(st.integers(0, trials)), trials


@given(seen(), CONFIDENCE)
def test_bounds_are_those_of_clopper_and_pearson(share: tuple[int, int], confidence: float) -> None:
    hits, trials = share
    low = stats.beta.ppf(1 - confidence, hits, trials - hits + 1) if hits else 0.0
    high = stats.beta.ppf(confidence, hits + 1, trials - hits) if hits < trials else 1.0

    assert lower_bound(hits, trials, confidence) == pytest.approx(low, rel=1e-6, abs=1e-9)
    assert upper_bound(hits, trials, confidence) == pytest.approx(high, rel=1e-6, abs=1e-9)


@given(seen(2_000), CONFIDENCE)
def test_wilsons_bounds_are_scipys(share: tuple[int, int], confidence: float) -> None:
    hits, trials = share
    found = stats.binomtest(hits, trials).proportion_ci(2 * confidence - 1, method="wilson")

    if confidence > 0.5:
        assert wilson_lower(hits, trials, confidence) == pytest.approx(found.low, abs=1e-9)
        assert wilson_upper(hits, trials, confidence) == pytest.approx(found.high, abs=1e-9)


@given(seen(), CONFIDENCE)
def test_bounds_are_mirror_images_and_enclose_what_was_seen(
    share: tuple[int, int], confidence: float
) -> None:
    hits, trials = share
    low, high = lower_bound(hits, trials, confidence), upper_bound(hits, trials, confidence)

    assert 0 <= low <= hits / trials + 1e-12
    assert hits / trials - 1e-12 <= high <= 1
    assert low == pytest.approx(1 - upper_bound(trials - hits, trials, confidence), abs=1e-9)


@given(seen(500), st.floats(0.5, 0.99))
def test_more_hits_raise_both_and_more_confidence_widens(
    share: tuple[int, int], confidence: float
) -> None:
    hits, trials = share
    for bound in (lower_bound, upper_bound, wilson_lower, wilson_upper):
        assert bound(hits, trials + 1, confidence) <= bound(hits + 1, trials + 1, confidence)
    for low, high in ((lower_bound, upper_bound), (wilson_lower, wilson_upper)):
        assert low(hits, trials, 0.995) <= low(hits, trials, confidence) + 1e-12
        assert high(hits, trials, 0.995) >= high(hits, trials, confidence) - 1e-12


@pytest.mark.parametrize(("hits", "trials"), [(5_000, 100_000), (1, 10**7), (999_999, 10**6)])
def test_bounds_hold_for_very_large_fleets(hits: int, trials: int) -> None:
    low = stats.beta.ppf(0.01, hits, trials - hits + 1)
    high = stats.beta.ppf(0.99, hits + 1, trials - hits)

    assert lower_bound(hits, trials, 0.99) == pytest.approx(low, rel=1e-6)
    assert upper_bound(hits, trials, 0.99) == pytest.approx(high, rel=1e-6)


def test_of_nothing_nothing_is_known() -> None:
    assert (lower_bound(0, 0, 0.9), upper_bound(0, 0, 0.9)) == (0.0, 1.0)
    assert (wilson_lower(0, 0, 0.9), wilson_upper(0, 0, 0.9)) == (0.0, 1.0)


def test_one_of_three_does_not_kill_and_none_of_three_does_not_bless() -> None:
    assert lower_bound(1, 3, 0.95) < 0.02 < upper_bound(0, 3, 0.95)


@pytest.mark.parametrize(
    ("hits", "trials", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (1, 3, 1.0), (1, 3, 0.4)]
)
def test_what_can_not_be_is_refused(hits: int, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="with confidence"):
        lower_bound(hits, trials, confidence)
    with pytest.raises(ValueError, match="with confidence"):
        upper_bound(hits, trials, confidence)
