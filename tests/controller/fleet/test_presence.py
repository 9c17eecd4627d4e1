from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.fleet.device import Device, DeviceStatus
from controller.fleet.presence import (
    STALE_AFTER_SECONDS,
    Presence,
    online_seconds,
    presence,
    seen,
)

NOW = 1_800_000_000.0
DEVICE = Device("pi-01", NOW, b"pem", "01", NOW + 1e6)

Heard = list[tuple[float, bool]]
"""How long after the last one the device was heard, and whether it then has a link."""


@pytest.mark.parametrize(
    ("connected", "last_seen", "expected"),
    [
        (True, NOW, Presence.ONLINE),
        (True, NOW - STALE_AFTER_SECONDS, Presence.ONLINE),
        (True, NOW - STALE_AFTER_SECONDS - 1, Presence.STALE),
        (True, NOW + 60, Presence.ONLINE),  # the clock was set back
        (False, NOW, Presence.OFFLINE),
        (False, 0.0, Presence.OFFLINE),
    ],
)
def test_presence_is_a_link_that_was_heard_lately(
    connected: bool, last_seen: float, expected: Presence
) -> None:
    assert presence(replace(DEVICE, connected=connected, last_seen=last_seen), NOW) is expected


def test_a_link_that_is_up_counts_until_now() -> None:
    up = seen(DEVICE, NOW, connected=True)

    assert online_seconds(up, NOW) == 0
    assert online_seconds(up, NOW + 90) == 90
    assert online_seconds(seen(up, NOW + 60, connected=True), NOW + 90) == 90


def test_a_device_that_is_away_grows_no_older() -> None:
    away = seen(seen(DEVICE, NOW, connected=True), NOW + 60, connected=False)

    assert online_seconds(away, NOW + 60) == 60
    assert online_seconds(away, NOW + 1e6) == 60


def test_what_is_heard_of_a_device_without_a_link_is_no_time_online() -> None:
    heard = seen(seen(DEVICE, NOW, connected=False), NOW + 60, connected=False)

    assert heard == replace(DEVICE, last_seen=NOW + 60)


def test_nothing_else_changes_when_a_device_is_heard() -> None:
    known = Device(
        "pi-01", 1.0, b"pem", "01", 2.0, DeviceStatus.REVOKED, {"a": "b"}, {"c": "d"},
        counter=7, last_seen=NOW, connected=True, connected_since=NOW - 5, online_seconds=3.0,
    )  # fmt: skip

    assert seen(known, NOW + 1, connected=True) == replace(known, last_seen=NOW + 1)
    assert seen(known, NOW, connected=True, counter=6) == known
    assert seen(known, NOW, connected=True, counter=9) == replace(known, counter=9)
    assert seen(known, NOW, connected=False) == replace(
        known, connected=False, connected_since=0.0, online_seconds=8.0
    )


def test_a_link_that_hangs_comes_to_every_deadline() -> None:
    silent = seen(DEVICE, NOW, connected=True)

    assert online_seconds(silent, NOW + 30 * 86_400) == 30 * 86_400


def test_a_clock_that_is_set_back_while_a_link_is_up_takes_nothing_away() -> None:
    up = seen(seen(DEVICE, NOW, connected=True), NOW + 60, connected=True)

    assert online_seconds(up, NOW - 1e6) == 60
    assert online_seconds(seen(up, NOW - 1e6, connected=True), NOW - 1e6 + 30) == 90
    assert online_seconds(seen(up, NOW - 1e6, connected=False), NOW) == 60


@given(st.lists(st.tuples(st.floats(-1e8, 1e8), st.booleans()), max_size=12))
def test_it_is_the_sum_of_what_the_clock_went_forward_while_a_link_was_up(heard: Heard) -> None:
    device, at, up, expected = DEVICE, NOW, False, 0.0

    for gap, connected in heard:
        at += gap
        expected += max(gap, 0.0) if up else 0.0
        assert online_seconds(device, at) == pytest.approx(expected, abs=1e-3)
        device, up = seen(device, at, connected=connected), connected
        assert online_seconds(device, at) == pytest.approx(expected, abs=1e-3)
        assert (device.connected_since > 0) == connected
