"""A newer directive supersedes at every state; slots install side by side."""

from agent.errors import SelfTestMismatch, TransportError
from agent.install.machine import State
from agent.install.ports import SelfTestResult
from agent.install.record import Deployed
from protos.manifest import Manifest
from tests.agent.install.outside import KEY, Outside, bundle
from tests.agent.install.running import ONE, THREE, TWO, running_one, seen
from tests.agent.install.world import Device


async def test_a_newer_directive_supersedes_at_every_state(outside: Outside) -> None:
    states = [state for state in State if state not in {State.IDLE, State.COMMITTED, State.FAILED}]
    reached = set[State]()
    for state in states:
        outside.failing = {TWO.sha256: SelfTestMismatch("x")} if state is State.REVERTING else {}
        device = await running_one(outside)
        device.direct(2, TWO.assignment())
        async with device.running():
            await device.until(lambda s=state, d=device: seen(d, s))  # type: ignore[misc]
            reached.add(state)
            device.direct(3, THREE.assignment())
            await device.until(lambda d=device: d.loop.is_settled)  # type: ignore[misc]
        assert (device.install.state, device.versions()) == (State.COMMITTED, (3, 3))
        assert None not in [version for _, version in device.deployments.history], "always answers"
        assert device.lost() == []
    assert reached == set(states)


async def test_going_back_to_the_committed_version_takes_no_second_trial(outside: Outside) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: device.install.state is State.PROBATION)
        device.direct(3, ONE.assignment())
        await device.until(lambda: device.loop.is_settled)

    assert device.deployments.history == [(KEY, 1), (KEY, 2), (KEY, 1)]
    assert device.self_test.ran == [2]
    assert (device.install.state, device.install.version) == (State.COMMITTED, 1)
    assert (device.install.generation, device.versions()) == (3, (1, 1))


async def test_going_back_at_any_state_leaves_nothing_of_what_was_tried(outside: Outside) -> None:
    for state in (State.PREFLIGHT, State.CHECKING, State.SELF_TEST, State.WAITING, State.PROBATION):
        device = await running_one(outside)
        device.direct(2, TWO.assignment())
        async with device.running():
            await device.until(lambda s=state, d=device: seen(d, s))  # type: ignore[misc]
            device.direct(3, ONE.assignment())
            await device.until(lambda d=device: d.loop.is_settled)  # type: ignore[misc]

        assert device.blobs.complete.keys() == ONE.files.keys(), state


async def test_the_same_version_in_a_newer_directive_only_changes_the_generation(
    outside: Outside,
) -> None:
    device = await running_one(outside)
    device.direct(2, ONE.assignment(rollout="later"))

    await device.settle()

    assert (device.install.generation, device.install.rollout) == (2, "later")
    assert device.self_test.ran == []
    assert [change.name for change in device.changes] == []


async def test_a_directive_that_renews_an_install_under_way_does_not_disturb_it(
    outside: Outside,
) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: seen(device, State.FETCHING))
        device.direct(3, TWO.assignment())
        await device.until(lambda: device.loop.is_settled)

    assert device.self_test.ran == [2]
    assert (device.install.generation, device.versions()) == (3, (2, 2))


async def test_a_model_that_is_no_longer_assigned_is_retired(outside: Outside) -> None:
    device = await running_one(outside)
    device.direct(2)

    await device.settle()

    assert device.slot is None
    assert list(device.inner.installs.installs()) == []
    assert device.deployments.answers() is None
    assert device.blobs.complete == {}
    assert [change.name for change in device.changes] == ["slot.retired"]


async def test_retiring_stops_an_install_under_way(outside: Outside) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: device.install.state is State.PROBATION)
        device.direct(3)
        await device.until(lambda: device.loop.is_settled)

    assert (device.slot, device.blobs.complete) == (None, {})


async def test_slots_install_side_by_side(outside: Outside) -> None:
    other = bundle(model="other", version=5)
    outside.add(other)
    outside.errors["verify"] = [TransportError("one of the two")]
    device = Device(outside)
    device.direct(1, ONE.assignment(), other.assignment(), TWO.assignment(slot="challenger"))

    await device.settle()

    assert {key: device.deployments.answers(key) for key in device.deployments.slots} == {
        KEY: 1, ("other", "champion"): 5, ("digits", "challenger"): 2,
    }  # fmt: skip
    assert device.lost() == []


async def test_a_slot_that_goes_back_is_no_fault_of_what_another_slot_has_just_loaded(
    outside: Outside,
) -> None:
    device = await running_one(outside)
    outside.failing = {THREE.sha256: SelfTestMismatch("x")}
    prepare, self_test = device.deployments.prepare, device.self_test.run

    async def prepare_and_wait(deployed: Deployed, manifest: Manifest) -> None:
        await prepare(deployed, manifest)
        if deployed.version == 2:
            await device.clock.sleep(2.0)  # meanwhile the champion's revert frees the candidate

    async def test_and_wait(manifest: Manifest) -> SelfTestResult:
        await device.clock.sleep(1.0)
        return await self_test(manifest)

    device.deployments.prepare = prepare_and_wait  # type: ignore[method-assign]
    device.self_test.run = test_and_wait  # type: ignore[method-assign]
    device.direct(2, ONE.assignment(), TWO.assignment(slot="challenger"))
    async with device.running():
        await device.until(lambda: 2 in device.deployments.loads)
        device.direct(3, TWO.assignment(slot="challenger"), THREE.assignment())
        await device.until(lambda: device.loop.is_settled)

    states = {one.slot: (one.version, one.state) for one in device.inner.installs.installs()}
    assert states == {"challenger": (2, State.COMMITTED), "champion": (3, State.FAILED)}
    assert device.deployments.answers(("digits", "challenger")) == 2


async def test_one_version_in_two_slots_is_fetched_once(outside: Outside) -> None:
    device = Device(outside)
    device.direct(1, ONE.assignment(), ONE.assignment(slot="challenger"))

    await device.settle()

    assert sorted(device.fetcher.fetched) == sorted(ONE.files)
    assert device.deployments.answers(("digits", "challenger")) == 1
