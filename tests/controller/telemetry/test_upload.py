"""Uploads of which nothing can be stored, and times that can not be."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from controller.errors import (
    ControllerError,
    DeviceRevoked,
    DeviceUnknown,
    InvalidInput,
    StoreError,
    TooLarge,
)
from controller.fleet.device import Device, DeviceStatus
from controller.store.store import Store
from controller.telemetry.actions import upload
from protos.limits import LATENCY_BUCKETS_SECONDS, UPLOAD_BYTES, UPLOAD_RECORDS
from protos.v1 import telemetry_pb2
from tests.controller.telemetry.uploads import NOW, NOW_MS, Stored, event, send, stored, window


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest.mark.parametrize("told", [0, -(2**63), 2**63 - 1, NOW_MS + 300_001, NOW_MS + 10**12])
def test_a_time_that_can_not_be_becomes_the_time_of_arrival_and_is_logged(
    store: Store, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    started = max(told - 5_000, -(2**63))
    wrong = window(1, started_ms=started, ended_ms=told)
    wrong.recorded_ms = told
    late = event(2)
    late.recorded_ms = told

    with caplog.at_level(logging.WARNING):
        send(store, wrong, late)

    with store.begin() as tx:
        (kept,) = tx.telemetry.windows("digits")
        (happened,) = tx.telemetry.events()
    assert kept.ended_ms == NOW_MS
    assert kept.started_ms == NOW_MS - (told - started)
    assert happened.recorded_ms == NOW_MS
    assert "telemetry.clock-skew device=dev-1 records=2" in caplog.text


def test_a_clock_that_is_a_little_off_and_months_without_a_link_are_believed(store: Store) -> None:
    months_ago = NOW_MS - 200 * 86_400_000
    old = window(1, started_ms=months_ago, ended_ms=months_ago)
    soon = event(2)
    soon.recorded_ms = NOW_MS + 300_000

    send(store, old, soon)

    with store.begin() as tx:
        assert [one.ended_ms for one in tx.telemetry.windows("digits")] == [months_ago]
        assert [one.recorded_ms for one in tx.telemetry.events()] == [NOW_MS + 300_000]


def many(count: int) -> Sequence[telemetry_pb2.Record]:
    return [event(one) for one in range(1, count + 1)]


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: b"\xff\xff\xff", InvalidInput, "UploadRequest"),
        (lambda: b"\x00" * (UPLOAD_BYTES + 1), TooLarge, "bytes"),
        (
            lambda: telemetry_pb2.UploadRequest(
                spool_id="s", records=many(UPLOAD_RECORDS + 1)
            ).SerializeToString(),
            TooLarge,
            "records",
        ),
        (lambda: telemetry_pb2.UploadRequest().SerializeToString(), InvalidInput, "spool_id"),
        (
            lambda: telemetry_pb2.UploadRequest(spool_id="a\x00").SerializeToString(),
            InvalidInput,
            "spool_id",
        ),
        (
            lambda: telemetry_pb2.UploadRequest(
                spool_id="s", records=[event(0)]
            ).SerializeToString(),
            InvalidInput,
            "sequence",
        ),
        (
            lambda: telemetry_pb2.UploadRequest(
                spool_id="s", records=[event(1), event(2**63)]
            ).SerializeToString(),
            InvalidInput,
            "sequence",
        ),
    ],
    ids=["junk", "too long", "too many", "no spool", "odd spool", "sequence 0", "huge sequence"],
)
def test_a_request_that_can_not_be_is_refused_and_nothing_of_it_is_stored(
    store: Store, make: Callable[[], bytes], error: type[ControllerError], says: str
) -> None:
    with pytest.raises(error, match=says):
        upload(store, "dev-1", make(), NOW)

    assert stored(store) == Stored([], [], 0, [], {})


def test_as_many_records_as_are_allowed_are_taken_at_once(store: Store) -> None:
    assert send(store, *many(UPLOAD_RECORDS)) == UPLOAD_RECORDS


def test_nobody_unknown_or_revoked_is_listened_to(store: Store) -> None:
    request = telemetry_pb2.UploadRequest(spool_id="s", records=[event(1)]).SerializeToString()
    with store.begin() as tx:
        device = tx.devices.get("dev-1")
        assert device is not None
        tx.devices.put(replace(device, status=DeviceStatus.REVOKED))

    with pytest.raises(DeviceRevoked):
        upload(store, "dev-1", request, NOW)
    with pytest.raises(DeviceUnknown):
        upload(store, "nobody", request, NOW)

    assert stored(store).events == []


def test_a_stored_key_that_can_not_be_read_is_the_stores_fault(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(Device("dev-1", NOW, b"no key", "ff", NOW))

    with pytest.raises(StoreError, match="dev-1"):
        send(store, event(1))


def test_latencies_of_every_bucket_are_taken(store: Store) -> None:
    traffic = telemetry_pb2.Traffic(
        requests=5,
        latency_counts=[1] * (len(LATENCY_BUCKETS_SECONDS) + 1),
        latency_sum_seconds=0.5,
    )

    send(store, window(1, traffic=traffic))

    assert stored(store).windows == ["w1"]
