from collections.abc import Mapping
from typing import Any

import pytest

from agent.monitor.finding import Verdict
from agent.monitor.window import together
from controller.errors import InvalidInput, NotFound
from controller.monitor.actions import drift_report, profile_report
from controller.telemetry.record import StoredWindow
from tests.controller.monitor.pumps import REFERENCE, TRAFFIC, controller, slot, stored
from tests.controller.rollout.world import device


def test_the_report_names_the_broken_devices_and_what_moved_on_them() -> None:
    windows = [
        stored(f"d{index}", sequence, shift=2.0 if index == 4 and sequence > 1 else 0.0)
        for sequence in (1, 2)
        for index in range(5)
    ]

    report = drift_report(*controller(windows), "pump")

    assert (report.version, report.verdict, report.windows) == (1, Verdict.OK, 10)
    assert report.rows == 4 * 300
    assert report.last_ended_ms == 2500
    assert [one.device for one in report.devices if one.broken] == ["d4"]
    broken = report.devices[4]
    assert (broken.verdict, broken.told, broken.windows) == (Verdict.DRIFT, Verdict.DRIFT, 1)
    assert broken.findings[0].series in {"x[0]", "score"}
    assert report.sentences[0] == "1 of 5 devices see data unlike the reference"


def test_small_windows_of_a_quiet_device_are_added_up_until_they_are_enough() -> None:
    windows = [stored("quiet", sequence, rows=120) for sequence in range(1, 6)]

    report = drift_report(*controller(windows), "pump")

    assert (report.devices[0].windows, report.devices[0].rows) == (3, 360)
    assert report.devices[0].verdict is Verdict.OK
    assert report.devices[0].told is Verdict.INSUFFICIENT_DATA


def test_devices_that_run_another_version_are_not_forgotten() -> None:
    store, blobs = controller([stored("d", 1, version=2)])
    slots = {
        ("d", 2, True): "pump",
        ("e", 1, True): "pump",
        ("f", 1, True): "pump",
        ("g", 1, False): "pump",
        ("h", 1, True): "valve",
    }
    with store.begin() as tx:
        for (name, version, running), model in slots.items():
            tx.devices.put(device(name, {}, {}))
            tx.devices.replace_slots(name, [slot(name, model, version, running)])

    assert drift_report(store, blobs, "pump").elsewhere == {1: 2}
    assert drift_report(store, blobs, "pump", version=2).elsewhere == {1: 2}


def test_the_newest_version_is_shown_unless_one_is_named() -> None:
    windows = [stored("d", 1, version=1), stored("d", 2, version=2)]
    store, blobs = controller(windows)

    assert drift_report(store, blobs, "pump").version == 2
    assert drift_report(store, blobs, "pump", version=1).version == 1


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param({"version": 2**31 - 1}, id="a version that nobody registered"),
        pytest.param({"profile": "e" * 64}, id="a profile that the version does not have"),
        pytest.param({"series": 1}, id="fewer series than the profile has"),
    ],
)
def test_what_one_device_makes_up_hides_nothing_of_the_others(lie: Mapping[str, Any]) -> None:
    windows = [stored(f"d{index}", 1) for index in range(3)]

    report = drift_report(*controller([*windows, stored("liar", 9, **lie)]), "pump")

    assert (report.version, report.verdict) == (1, Verdict.OK)
    assert [one.device for one in report.devices] == ["d0", "d1", "d2"]


def test_what_does_not_exist_is_not_found() -> None:
    store, blobs = controller([])

    with pytest.raises(NotFound, match="no model 'pumpe'"):
        drift_report(store, blobs, "pumpe")
    with pytest.raises(NotFound, match="pump/7"):
        drift_report(store, blobs, "pump", version=7)


def test_a_stored_window_that_can_not_be_read_is_named() -> None:
    one = stored("d", 1)
    torn = StoredWindow(
        **{name: getattr(one, name) for name in one.__slots__} | {"payload": b"\xff"}
    )

    with pytest.raises(InvalidInput, match="window 'd-1' of device 'd'"):
        drift_report(*controller([torn]), "pump")


def test_the_data_of_the_fleet_and_of_one_device_stand_beside_the_references() -> None:
    windows = [stored(f"d{index}", 1, shift=2.0 if index == 1 else 0.0) for index in range(3)]
    store, blobs = controller(windows)

    fleet = profile_report(store, blobs, "pump")
    healthy = profile_report(store, blobs, "pump", device="d0")
    broken = profile_report(store, blobs, "pump", device="d1")

    assert (fleet.devices, fleet.rows, fleet.windows) == (("d0", "d1", "d2"), 900, 3)
    assert (healthy.devices, healthy.rows) == (("d0",), 300)
    assert [one.name for one in fleet.series] == [one.name for one in REFERENCE.series]
    means = [report.series[0].now.mean for report in (healthy, fleet, broken)]
    assert all(mean is not None for mean in means)
    assert means == sorted(means, key=lambda mean: mean or 0.0)
    usual = healthy.series[0].reference.mean
    assert usual is not None
    assert means[0] == pytest.approx(usual, abs=0.2)
    assert means[2] == pytest.approx(usual + 2.0, abs=0.3)


def test_requests_and_their_latencies_are_added_up() -> None:
    windows = [stored(f"d{index}", 1, traffic=traffic) for index, traffic in enumerate(TRAFFIC)]

    report = profile_report(*controller(windows), "pump")

    assert report.traffic == together(*TRAFFIC)


def test_a_device_that_has_told_nothing_has_no_data() -> None:
    store, blobs = controller([stored("d", 1)])

    with pytest.raises(NotFound, match="'e' has told nothing of pump/1"):
        profile_report(store, blobs, "pump", device="e")
