import pytest

from controller.monitor import calibration
from simulations.bench import monitor


def test_the_benchmark_runs_and_says_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("CALLS", 64), ("REPEATS", 1), ("REFERENCE_ROWS", 400)):
        monkeypatch.setattr(monitor, name, small)

    monkeypatch.setattr(calibration, "REPLAYS", 100)

    rows = monitor.rows()

    assert all(row.value > 0 for row in rows)
    assert [row.unit for row in rows] == ["µs", "µs", "ms", "s"]
