"""What is recalled stops, and is neither run nor gone back to."""

from agent.install.machine import State
from tests.agent.install.outside import KEY, Outside
from tests.agent.install.running import ONE, TWO, running_one, seen
from tests.agent.install.world import recalling


async def test_a_recalled_version_falls_back_to_the_one_before(outside: Outside) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: device.install.state is State.PROBATION)
        await device.loop.enforce(recalling(TWO.sha256))
        assert device.deployments.answers() == 1, "at once"
        await device.until(lambda: device.loop.is_settled)

    assert (device.install.state, device.install.code) == (State.FAILED, "recalled")
    assert device.versions() == (1, 1)
    assert device.inner.installs.quarantined(TWO.sha256) is None


async def test_a_recall_binds_the_fallback_too(outside: Outside) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: device.install.state is State.PROBATION)
        await device.loop.enforce(recalling(ONE.sha256, TWO.sha256))
        assert device.deployments.answers() is None
        await device.until(lambda: device.loop.is_settled)

    assert (device.install.state, device.install.code, device.slot) == (
        State.FAILED, "recalled", None,
    )  # fmt: skip


async def test_a_recalled_fallback_is_not_gone_back_to(outside: Outside) -> None:
    outside.bad_in_service.add(TWO.sha256)
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: device.install.state is State.PROBATION)
        await device.loop.enforce(recalling(ONE.sha256))
        assert device.deployments.answers() == 2
        await device.until(lambda: device.loop.is_settled)

    assert (device.install.code, device.slot) == ("probation-failed", None)
    assert device.deployments.answers() is None


async def test_a_recall_stops_a_version_that_was_committed_long_ago(outside: Outside) -> None:
    device = await running_one(outside)

    await device.enforce(recalling(ONE.sha256))  # before it runs: nothing is even loaded
    await device.settle()

    assert (device.install.state, device.install.code) == (State.FAILED, "recalled")
    assert (device.slot, device.deployments.loads) == (None, [])


async def test_a_recall_ends_an_install_under_way_at_every_state(outside: Outside) -> None:
    for state in ("preflight", "fetching", "self-test", "waiting", "switching"):
        device = await running_one(outside)
        device.direct(2, TWO.assignment())
        async with device.running():
            await device.until(lambda s=state, d=device: seen(d, State(s)))  # type: ignore[misc]
            await device.loop.enforce(recalling(TWO.sha256))
            await device.until(lambda d=device: d.loop.is_settled)  # type: ignore[misc]
        assert (device.install.state, device.install.code) == (State.FAILED, "recalled")
        assert device.deployments.answers() == 1


async def test_nothing_recalled_is_ever_switched_to(outside: Outside) -> None:
    """The recall comes while trust still looks at what it knew before."""
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: seen(device, State.VERIFYING))
        await device.loop.enforce(recalling(TWO.sha256))
        await device.until(lambda: device.loop.is_settled)

    assert (device.install.state, device.install.code) == (State.FAILED, "recalled")
    assert device.deployments.history == [(KEY, 1)]


async def test_what_follows_a_recall_is_installed_as_ever(outside: Outside) -> None:
    device = await running_one(outside)
    await device.enforce(recalling(ONE.sha256))
    device.direct(2, TWO.assignment())

    await device.settle()

    assert (device.install.state, device.versions()) == (State.COMMITTED, (2, 2))
