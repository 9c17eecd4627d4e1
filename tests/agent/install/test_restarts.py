"""What a restart finds again, and what it holds against a version."""

from agent.errors import HashMismatch, ModelLoadFailed
from agent.install.change import Change
from agent.install.machine import State
from protos.manifest import Role
from tests.agent.install.outside import KEY, Outside
from tests.agent.install.running import ONE, TWO, running_one
from tests.agent.install.world import Device


async def test_a_restart_loads_what_ran_before(outside: Outside) -> None:
    device = await running_one(outside)

    await device.settle()

    assert device.deployments.answers() == 1
    assert (device.self_test.ran, device.fetcher.fetched, device.changes) == ([], [], [])


async def test_what_answers_again_after_a_restart_is_told_though_nothing_is_written(
    outside: Outside,
) -> None:
    device = await running_one(outside)

    await device.settle()

    assert device.loads == [{KEY: ONE.manifest.files[Role.MODEL].sha256}]
    assert device.changes == []


async def test_a_file_that_the_disk_has_lost_is_fetched_again(outside: Outside) -> None:
    device = await running_one(outside)
    lost = [*ONE.files][:2]
    device.blobs.complete[lost[0]] = b"rot"
    del device.blobs.complete[lost[1]]

    await device.settle()

    assert device.deployments.answers() == 1
    assert sorted(device.fetcher.fetched) == sorted(lost)


async def test_a_file_that_is_lost_before_the_self_test_is_no_fault_of_the_version(
    outside: Outside,
) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment())
    lost = ONE.manifest.files[Role.MODEL].sha256

    def lose(change: Change) -> None:
        if change.name == "install.self-test":
            del device.blobs.complete[lost]
            outside.errors["self-test"] = [HashMismatch("not there")]

    device.on_change = lose
    await device.settle()

    assert device.versions() == (1, 1)
    assert device.fetcher.fetched.count(lost) == 2
    assert device.inner.installs.quarantined(ONE.sha256) is None


async def test_a_slot_that_can_not_be_loaded_is_tried_again(outside: Outside) -> None:
    device = await running_one(outside)
    outside.errors["prepare"] = [ModelLoadFailed("not now") for _ in range(3)]

    await device.settle()

    assert (device.install.state, device.deployments.answers()) == (State.COMMITTED, 1)


async def test_an_unproven_version_that_can_not_be_loaded_again_is_rolled_back(
    outside: Outside,
) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: device.install.state is State.PROBATION)
    outside.unloadable.add(TWO.sha256)
    again = device.restarted()

    await again.settle()

    assert (again.install.state, again.install.code) == (State.FAILED, "model-load")
    assert again.deployments.answers() == 1
    assert again.clock.seconds == 0.0, "the fallback does not wait"


async def test_a_version_that_takes_the_device_down_is_given_up(outside: Outside) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    for _ in range(4):
        async with device.running():
            await device.until(lambda d=device: d.deployments.answers() == 2)  # type: ignore[misc]
        device = device.restarted()

    await device.settle()

    assert (device.install.state, device.install.code) == (State.FAILED, "crash-loop")
    assert device.inner.installs.quarantined(TWO.sha256) is not None
    assert device.deployments.history == [(KEY, 1)], "it was not even loaded"


async def test_restarts_that_somebody_asked_for_do_not_speak_against_a_version(
    outside: Outside,
) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    for _ in range(6):
        async with device.running():
            await device.until(lambda d=device: d.deployments.answers() == 2)  # type: ignore[misc]
        await device.loop.rest()
        device = device.restarted()

    await device.settle()

    assert device.install.state is State.COMMITTED
    assert device.versions() == (2, 2)
