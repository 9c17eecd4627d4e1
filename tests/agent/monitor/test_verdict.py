import dataclasses

import numpy as np
import pytest

from agent.monitor import thresholds
from agent.monitor.counts import Counts, ProfileMismatch, empty
from agent.monitor.finding import MAX_FINDINGS, Severity, Verdict
from agent.monitor.observer import Observer
from agent.monitor.reference import CELLS
from agent.monitor.verdict import bad_data, judge
from tests.agent.monitor import profiles

REFERENCE = profiles.reference()


@pytest.mark.parametrize(
    ("rows", "windows"), [(50, 250), (100, 250), (300, 400), (1000, 150), (3000, 80)]
)
def test_healthy_windows_are_ok_but_for_the_share_that_the_operator_set(
    rows: int, windows: int
) -> None:
    rng = np.random.default_rng(rows)

    alarms = sum(
        judge(REFERENCE, profiles.window(rng, rows), n_min=50).verdict is not Verdict.OK
        for _ in range(windows)
    )

    # alpha is 1e-3: 0.4 expected of 400; more than 3 has a probability of 8e-4.
    assert alarms <= 3


@pytest.mark.parametrize(
    ("rows", "shift", "least"), [(50, 1.2, 0.9), (300, 0.5, 0.95), (1000, 0.35, 0.95)]
)
def test_a_shift_is_found_and_named_first(rows: int, shift: float, least: float) -> None:
    rng = np.random.default_rng(7)
    judged = [
        judge(REFERENCE, profiles.window(rng, rows, shift=shift), n_min=50) for _ in range(30)
    ]

    found = [one for one in judged if one.verdict is Verdict.DRIFT]

    assert len(found) >= least * len(judged)
    named = [one.findings[0].series in {"x[0]", "score"} for one in found]
    assert sum(named) >= 0.98 * len(found)


def test_a_finding_says_what_moved_from_where_to_where() -> None:
    judgement = judge(REFERENCE, profiles.window(np.random.default_rng(1), 1000, shift=2.0))

    top = next(one for one in judgement.findings if one.series == "x[0]")
    assert (top.kind, top.severity, top.effect) == ("drift", Severity.CRITICAL, 1.0)
    assert top.value > 3 * top.threshold > 0
    assert top.p_value < 1e-30
    assert top.detail.startswith("x[0] rose from ")
    assert 1.8 < float(top.detail.rsplit(" ", 1)[1]) < 2.2


def test_a_changed_share_of_a_category_is_said_as_one() -> None:
    rng = np.random.default_rng(2)

    judgement = judge(REFERENCE, profiles.window(rng, 2000, shares=(0.7, 0.2, 0.1)))

    assert judgement.verdict is Verdict.DRIFT
    assert judgement.findings[0].series == "colour"
    assert "share of 'blue' in colour rose from" in judgement.findings[0].detail


def test_a_change_that_is_significant_but_tiny_is_no_finding() -> None:
    rng = np.random.default_rng(3)
    counts = profiles.window(rng, 30_000, shift=0.15)

    judgement = judge(REFERENCE, counts)

    assert judgement.p_value < 1e-3
    assert judgement.verdict is Verdict.OK


@pytest.mark.parametrize("rows", [0, 1, 49, 299])
def test_too_little_data_is_never_ok_however_it_looks(rows: int) -> None:
    rng = np.random.default_rng(4)

    assert judge(REFERENCE, profiles.window(rng, rows)).verdict is Verdict.INSUFFICIENT_DATA
    shifted = profiles.window(rng, rows, shift=9.0)
    assert judge(REFERENCE, shifted).verdict is Verdict.INSUFFICIENT_DATA


def test_no_configuration_makes_fewer_than_fifty_rows_enough() -> None:
    counts = profiles.window(np.random.default_rng(5), 49)

    assert judge(REFERENCE, counts, n_min=1).verdict is Verdict.INSUFFICIENT_DATA


def spoiled(share: float, value: float) -> Counts:
    rng = np.random.default_rng(6)
    x = profiles.features(rng, 1000)
    x[: int(share * 1000), 0] = value
    observer = Observer(REFERENCE)
    healthy = profiles.answers(profiles.features(rng, 1000))
    observer.observe(profiles.inputs(x, profiles.colours(rng, 1000)), healthy)
    return observer.drain()


@pytest.mark.parametrize(
    ("value", "statistic"),
    [
        (np.nan, "nan_share"),
        (np.inf, "inf_share"),
        (-np.inf, "inf_share"),
        (500.0, "out_of_range_share"),
    ],
)
def test_faulty_values_are_bad_data_and_not_drift(value: float, statistic: str) -> None:
    judgement = judge(REFERENCE, spoiled(0.3, value))

    assert judgement.verdict is Verdict.BAD_DATA
    (finding,) = judgement.findings
    assert (finding.series, finding.statistic, finding.kind) == ("x[0]", statistic, "quality")
    assert finding.value == pytest.approx(0.3)
    assert finding.severity is Severity.CRITICAL
    assert finding.detail.startswith("30 % of x[0] is ")


def test_faulty_values_of_one_series_hide_no_drift_of_another() -> None:
    rng = np.random.default_rng(12)
    x = profiles.features(rng, 1000, shift=2.0)
    x[:20, 1] = 1e6
    observer = Observer(REFERENCE)
    healthy = profiles.answers(profiles.features(rng, 1000))
    observer.observe(profiles.inputs(x, profiles.colours(rng, 1000, (0.7, 0.2, 0.1))), healthy)

    judgement = judge(REFERENCE, observer.drain())

    assert judgement.verdict is Verdict.BAD_DATA
    first, *others = judgement.findings
    assert (first.series, first.kind) == ("x[1]", "quality")
    assert {(one.series, one.kind) for one in others} == {("x[0]", "drift"), ("colour", "drift")}
    assert others[0].severity is Severity.CRITICAL


def test_many_faulty_series_leave_room_for_what_has_moved() -> None:
    faulty = judge(REFERENCE, spoiled(0.3, np.nan)).findings * 30
    moved = judge(REFERENCE, profiles.window(np.random.default_rng(1), 1000, shift=2.0)).findings

    kinds = [one.kind for one in bad_data(faulty, moved).findings]
    assert kinds == ["quality"] * (MAX_FINDINGS - len(moved)) + ["drift"] * len(moved)
    kinds = [one.kind for one in bad_data(faulty, moved * 30).findings]
    assert kinds == ["quality"] * (MAX_FINDINGS // 2) + ["drift"] * (MAX_FINDINGS // 2)


def test_a_single_bad_reading_is_the_weather_of_sensors() -> None:
    assert judge(REFERENCE, spoiled(0.003, np.nan)).verdict is Verdict.OK


def test_unknown_categories_are_bad_data() -> None:
    rng = np.random.default_rng(8)
    x, colour = profiles.features(rng, 500), profiles.colours(rng, 500)
    colour[:100] = "violet"
    observer = Observer(REFERENCE)
    observer.observe(profiles.inputs(x, colour), profiles.answers(x))

    judgement = judge(REFERENCE, observer.drain())

    assert judgement.verdict is Verdict.BAD_DATA
    assert judgement.findings[0].statistic == "unseen_share"
    assert judgement.findings[0].detail.startswith("20 % of colour are categories unknown")


def test_a_sensor_that_stands_still_is_bad_data() -> None:
    rng = np.random.default_rng(9)
    x = profiles.features(rng, 400)
    x[:, 0] = 0.25
    observer = Observer(REFERENCE)
    healthy = profiles.answers(profiles.features(rng, 400))
    observer.observe(profiles.inputs(x, profiles.colours(rng, 400)), healthy)

    judgement = judge(REFERENCE, observer.drain())

    assert judgement.verdict is Verdict.BAD_DATA
    assert judgement.findings[0].detail == "x[0] is stuck at 0.25 for 400 predictions"


def test_findings_are_ranked_by_effect() -> None:
    rng = np.random.default_rng(10)

    judgement = judge(REFERENCE, profiles.window(rng, 1000, shift=0.7, shares=(0.35, 0.3, 0.35)))

    effects = [finding.effect for finding in judgement.findings]
    assert len(effects) >= 3
    assert effects == sorted(effects, reverse=True)


def test_counts_of_another_profile_are_refused() -> None:
    with pytest.raises(ProfileMismatch):
        judge(REFERENCE, empty("0" * 64, len(REFERENCE.series)))


def test_a_window_of_nothing_but_nan_is_judged_without_a_warning() -> None:
    counts = profiles.window(np.random.default_rng(11), 300)
    cells = np.zeros_like(counts.cells)
    cells[:, CELLS - 2] = 300
    nothing = dataclasses.replace(counts, cells=cells)

    assert judge(REFERENCE, nothing).verdict is Verdict.BAD_DATA


def test_the_chance_of_a_window_is_the_inverse_of_the_threshold() -> None:
    for rows in (50, 77, 300, 2000, 10**6):
        for chance in (0.3, 0.01, 1e-3, 1e-5):
            evidence = thresholds.critical_evidence(REFERENCE.table, rows, chance)
            assert thresholds.window_chance(REFERENCE.table, rows, evidence) == pytest.approx(
                chance
            )


def test_thresholds_ask_for_more_evidence_the_fewer_false_alarms_are_wanted() -> None:
    yearly = [1e-2, 1e-3, 1e-4, 1e-6]

    asked = [thresholds.critical_evidence(REFERENCE.table, 300, chance) for chance in yearly]

    assert asked == sorted(asked)
    assert asked[-1] - asked[-2] >= 2.0
