"""What is put off, and what is tried again before a version is condemned."""

import pytest

from agent.errors import (
    AgentError,
    ExpiredMetadata,
    SelfTestKilled,
    SelfTestSlow,
    SelfTestTimeout,
    TooFewApprovals,
    TransportError,
)
from agent.install.machine import MAX_TRIES, State
from protos.manifest import Needs
from tests.agent.install.outside import Outside, bundle
from tests.agent.install.running import ONE, TWO, running_one
from tests.agent.install.world import Device


@pytest.mark.parametrize("kind", [SelfTestSlow, SelfTestTimeout])
async def test_a_busy_device_tests_a_version_again_before_it_condemns_it(
    outside: Outside, kind: type[AgentError]
) -> None:
    device = await running_one(outside)
    outside.errors["self-test"] = [kind("busy") for _ in range(MAX_TRIES - 1)]
    device.direct(2, TWO.assignment())
    await device.settle()

    assert (device.install.state, device.versions()) == (State.COMMITTED, (2, 2))
    assert device.inner.installs.quarantined(TWO.sha256) is None


@pytest.mark.parametrize("kind", [SelfTestSlow, SelfTestTimeout])
async def test_a_version_that_is_too_slow_every_time_is_quarantined_over_restarts_too(
    outside: Outside, kind: type[AgentError]
) -> None:
    outside.failing[TWO.sha256] = kind("always")
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    tested = len(device.self_test.ran)
    async with device.running():
        await device.until(lambda: device.install.tries == 2)
    tested = len(device.self_test.ran) - tested
    device = device.restarted()
    await device.settle()

    assert (device.install.state, device.install.code) == (State.FAILED, kind.code)
    assert tested + len(device.self_test.ran) == MAX_TRIES
    kept = device.inner.installs.quarantined(TWO.sha256)
    assert kept is not None
    assert (kept.code, kept.detail) == (kind.code, "always")
    assert device.deployments.answers() == 1


async def test_a_self_test_that_was_killed_from_outside_is_done_again_however_often(
    outside: Outside,
) -> None:
    device = await running_one(outside)
    outside.errors["self-test"] = [SelfTestKilled("no memory") for _ in range(3 * MAX_TRIES)]
    device.direct(2, TWO.assignment())
    await device.settle()

    assert (device.install.state, device.versions()) == (State.COMMITTED, (2, 2))
    assert "install.deferred" in [one.name for one in device.changes]


async def test_what_the_device_refused_may_be_asked_for_again(outside: Outside) -> None:
    outside.refusals[TWO.sha256] = TooFewApprovals("1 of 2 approvals")
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    await device.settle()
    assert (device.install.state, device.install.code) == (State.FAILED, "too-few-approvals")
    assert device.inner.installs.quarantined(TWO.sha256) is None

    outside.refusals.clear()
    await device.settle()
    assert device.install.state is State.FAILED, "nobody asked again"
    device.direct(3, TWO.assignment())
    await device.settle()

    assert (device.install.state, device.versions()) == (State.COMMITTED, (2, 2))


@pytest.mark.parametrize("step", ["verify", "fetch", "self-test", "prepare"])
async def test_no_answer_defers_and_burns_no_attempt(outside: Outside, step: str) -> None:
    outside.errors[step] = [TransportError("nobody there") for _ in range(6)]
    device = Device(outside)
    device.direct(1, ONE.assignment())

    await device.settle()

    assert (device.install.state, device.install.resumptions) == (State.COMMITTED, 0)
    assert outside.errors[step] == []
    deferred = [change for change in device.changes if change.name == "install.deferred"]
    assert [(change.code, change.detail) for change in deferred] == [("transport", "nobody there")]
    assert device.clock.seconds > 5 + 10 + 20 + 40, "waits grow"


async def test_waking_tries_again_at_once_what_was_put_off(outside: Outside) -> None:
    outside.errors["verify"] = [TransportError("no link yet")]
    device = Device(outside)
    device.direct(1, ONE.assignment())
    async with device.running():
        await device.spin()
        assert (device.install.code, device.clock.seconds) == ("transport", 0.0)
        device.loop.wake()
        await device.spin()
        assert device.install.state is State.PROBATION
        assert device.install.code == ""
        assert device.clock.seconds == 0.0


async def test_a_link_that_comes_up_while_a_failure_is_noted_is_made_use_of_at_once(
    outside: Outside,
) -> None:
    outside.errors["verify"] = [TransportError("no link yet")]
    device = Device(outside)
    device.direct(1, ONE.assignment())
    device.on_change = lambda change: (
        device.loop.wake() if change.name == "install.deferred" else None
    )
    async with device.running():
        await device.until(lambda: "install.switching" in names(device))
        assert names(device)[:3] == ["install.verifying", "install.deferred", "install.preflight"]
        assert device.clock.seconds == 0.0


def names(device: Device) -> list[str]:
    return [change.name for change in device.changes]


async def test_expired_metadata_put_off_an_install_and_never_fail_it(outside: Outside) -> None:
    device = await running_one(outside)
    outside.errors["verify"] = [ExpiredMetadata("timestamp expired an hour ago")]
    device.direct(2, TWO.assignment())

    await device.settle()

    assert device.install.state is State.COMMITTED
    assert "expired-metadata" in {change.code for change in device.changes}


async def test_a_fetch_goes_on_where_it_stopped(outside: Outside) -> None:
    outside.errors["fetch"] = [TransportError("cut")]
    device = Device(outside)
    device.direct(1, ONE.assignment())

    await device.settle()

    assert device.install.state is State.COMMITTED
    assert len(device.fetcher.fetched) == len(ONE.files) + 1


async def test_a_full_disk_defers_until_there_is_room(outside: Outside) -> None:
    big = bundle(version=4, needs=Needs(disk_bytes=1 << 40))
    outside.add(big)
    device = await running_one(outside)
    device.direct(2, big.assignment())
    async with device.running():
        await device.until(lambda: device.install.code == "disk-full")
        assert device.install.state is State.PREFLIGHT
        assert "of disk" in device.install.detail
        outside.facts.disk_free_bytes = 1 << 41
        await device.until(lambda: device.loop.is_settled)

    assert device.versions() == (4, 4)
    outside.facts.disk_free_bytes = 1 << 30
