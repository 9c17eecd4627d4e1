"""The disk takes no more writes: what runs goes on, and what may not run does not."""

import contextlib
from collections.abc import Iterator

import pytest

from agent.errors import DiskFull
from agent.install.machine import State
from agent.install.record import Deployed
from protos.manifest import Manifest
from simulations.memory_device_store import Contents, MemoryDeviceStore
from tests.agent.install.outside import Outside, bundle
from tests.agent.install.world import Device, recalling

ONE, TWO = (bundle(version=number) for number in (1, 2))


class FillingStore(MemoryDeviceStore):
    """A store whose transactions fail while it is ``full``."""

    full = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
            if self.full:
                raise DiskFull("no room")


async def trying_two() -> tuple[Device, FillingStore]:
    """A device that has committed version 1 and went down in the middle of trying version 2."""
    outside, store = Outside(), FillingStore(contents=Contents())
    outside.add(ONE, TWO)
    device = Device(outside, store=store)
    device.direct(1, ONE.assignment())
    await device.settle()
    device = device.restarted()
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: device.install.state is State.PROBATION)
    return device.restarted(), store


async def test_a_disk_that_is_full_at_the_start_does_not_end_the_agent() -> None:
    device, store = await trying_two()
    store.full = True
    async with device.running():
        await device.until(lambda: device.clock.seconds > 60)
        assert device.deployments.answers() == 2, "what runs goes on"
        assert device.self_test.ran == []
        store.full = False
        await device.until(lambda: device.loop.is_settled)

    assert device.versions() == (2, 2)


@pytest.mark.parametrize("recovered", [True, False])
async def test_what_is_recalled_while_the_disk_is_full_answers_no_more(recovered: bool) -> None:
    device, store = await trying_two()
    async with contextlib.AsyncExitStack() as running:
        if recovered:
            await running.enter_async_context(device.running())
            await device.until(lambda: device.deployments.answers() == 2)
        store.full = True
        with pytest.raises(DiskFull):
            await device.enforce(recalling(ONE.sha256, TWO.sha256))
        if not recovered:
            await running.enter_async_context(device.running())
        device.deployments.history.clear()
        await device.until(lambda: device.clock.seconds > 60)
        assert device.deployments.answers() is None
        assert {version for _, version in device.deployments.history} <= {None}

        store.full = False
        await device.enforce(recalling(ONE.sha256, TWO.sha256))
        await device.until(lambda: device.loop.is_settled)

    assert device.versions() == (None, None)


async def test_a_recall_binds_what_answers_though_the_disk_was_full_from_the_start() -> None:
    device, store = await trying_two()
    store.full = True
    async with device.running():
        await device.until(lambda: device.deployments.answers() == 2)
        with pytest.raises(DiskFull):
            await device.enforce(recalling(TWO.sha256))
        assert device.deployments.answers() is None
        await device.until(lambda: device.clock.seconds > 60)
        assert device.deployments.answers() is None

        store.full = False
        await device.enforce(recalling(TWO.sha256))
        await device.until(lambda: device.loop.is_settled)

    assert device.versions() == (1, 1)


async def test_what_is_recalled_while_it_is_loaded_does_not_answer() -> None:
    device, store = await trying_two()
    store.full = True
    prepare = device.deployments.prepare

    async def slowly(deployed: Deployed, manifest: Manifest) -> None:
        await prepare(deployed, manifest)
        await device.clock.sleep(1.0)

    device.deployments.prepare = slowly  # type: ignore[method-assign]
    async with device.running():
        await device.until(lambda: device.deployments.loads == [2])
        with pytest.raises(DiskFull):
            await device.enforce(recalling(TWO.sha256))
        await device.until(lambda: device.clock.seconds > 60)
        assert {version for _, version in device.deployments.history} <= {None}
