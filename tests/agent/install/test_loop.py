from dataclasses import replace

import pytest

from agent.errors import (
    AgentError,
    ExpiredMetadata,
    HashMismatch,
    ModelLoadFailed,
    SelfTestKilled,
    SelfTestMismatch,
    SelfTestSlow,
    SelfTestTimeout,
    TooFewApprovals,
    TransportError,
)
from agent.install.change import Change
from agent.install.machine import MAX_TRIES, State
from agent.install.ports import SelfTestResult
from agent.install.record import Deployed
from protos.manifest import Manifest, Needs, Role
from tests.agent.install.world import KEY, Device, Outside, bundle, recalling

ONE, TWO, THREE = (bundle(version=number) for number in (1, 2, 3))


@pytest.fixture
def outside() -> Outside:
    world = Outside()
    world.add(ONE, TWO, THREE)
    return world


async def running_one(outside: Outside) -> Device:
    """A device that has committed version 1."""
    device = Device(outside)
    device.direct(1, ONE.assignment())
    await device.settle()
    assert device.versions() == (1, 1)
    return device.restarted()


async def test_a_first_version_is_brought_up_and_committed(outside: Outside) -> None:
    device = Device(outside)
    device.direct(7, ONE.assignment(rollout="r1"))

    await device.settle()

    install = device.install
    assert (install.state, install.generation, install.rollout) == (State.COMMITTED, 7, "r1")
    assert (install.approvals, install.code, install.resumptions) == (2, "", 0)
    assert device.versions() == (1, 1)
    assert device.deployments.answers() == 1
    assert device.loop.loaded() == {KEY: device.slot.active.model_sha256}  # type: ignore[union-attr]
    assert [change.name for change in device.changes] == [
        f"install.{state}"
        for state in (
            "verifying", "preflight", "fetching", "checking", "staged", "self-test", "shadow",
            "waiting", "switching", "probation", "committed",
        )
    ]  # fmt: skip
    assert device.lost() == []


async def test_the_old_version_answers_until_the_new_one_does(outside: Outside) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())

    await device.settle()

    assert device.deployments.history == [(KEY, 1), (KEY, 2)]
    assert device.versions() == (2, 2)


async def test_what_is_replaced_is_collected_only_when_its_successor_is_proven(
    outside: Outside,
) -> None:
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    async with device.running():
        await device.until(lambda: device.install.state is State.PROBATION)
        assert set(ONE.files) <= device.blobs.complete.keys()
        await device.until(lambda: device.loop.is_settled)

    assert device.blobs.complete.keys() == TWO.files.keys()


async def test_a_version_that_fails_its_self_test_never_answers(outside: Outside) -> None:
    outside.failing[TWO.sha256] = SelfTestMismatch("output 3 is off by 0.2")
    device = await running_one(outside)
    device.direct(2, TWO.assignment())

    await device.settle()

    install = device.install
    assert (install.state, install.code) == (State.FAILED, "self-test-mismatch")
    assert install.detail == "output 3 is off by 0.2"
    assert device.deployments.history == [(KEY, 1)]
    assert device.versions() == (1, 1)
    kept = device.inner.installs.quarantined(TWO.sha256)
    assert kept is not None
    assert (kept.code, kept.detail, kept.attempt) == (install.code, install.detail, 1)
    assert device.blobs.complete.keys() == ONE.files.keys()


async def test_a_version_that_fails_in_service_is_rolled_back_from_memory(outside: Outside) -> None:
    outside.bad_in_service.add(TWO.sha256)
    device = await running_one(outside)
    device.direct(2, TWO.assignment())

    await device.settle()

    assert (device.install.state, device.install.code) == (State.FAILED, "probation-failed")
    assert device.deployments.history == [(KEY, 1), (KEY, 2), (KEY, 1)]
    assert device.deployments.loads == [1, 2], "the version before was still warm"
    assert device.versions() == (1, 1)


async def test_a_first_version_that_fails_in_service_leaves_an_empty_slot(
    outside: Outside,
) -> None:
    outside.bad_in_service.add(ONE.sha256)
    device = Device(outside)
    device.direct(1, ONE.assignment())

    await device.settle()

    assert (device.install.state, device.slot) == (State.FAILED, None)
    assert device.deployments.answers() is None
    assert device.blobs.complete == {}


async def test_a_quarantined_digest_is_refused_with_its_first_reason_until_it_is_lifted(
    outside: Outside,
) -> None:
    outside.failing[TWO.sha256] = SelfTestMismatch("output 3 is off")
    device = await running_one(outside)
    device.direct(2, TWO.assignment())
    await device.settle()
    tested = len(device.self_test.ran)

    for generation in (3, 4):
        device.direct(generation, TWO.assignment())
        await device.settle()
        install = device.install
        assert (install.state, install.code) == (State.FAILED, "quarantined")
        assert install.detail == "it failed here before with self-test-mismatch: output 3 is off"
        assert install.generation == generation
    assert len(device.self_test.ran) == tested
    assert device.deployments.answers() == 1

    outside.failing.clear()
    async with device.running():
        await device.loop.lift(TWO.sha256)
        await device.until(lambda: device.loop.is_settled)

    assert (device.install.state, device.versions()) == (State.COMMITTED, (2, 2))


@pytest.mark.parametrize(("known", "code"), [(20, "incompatible"), (21, ""), (0, "")])
async def test_a_version_of_newer_operators_than_the_runtime_knows_is_not_even_fetched(
    known: int, code: str
) -> None:
    newer = bundle(version=2, needs=Needs(opset=21))
    outside = Outside(opsets={"onnxruntime": known})
    outside.add(newer)
    device = Device(outside)
    device.direct(1, newer.assignment())
    await device.settle()

    assert device.install.code == code
    assert (device.fetcher.fetched == [newer.sha256]) == bool(code)


async def test_who_waits_for_a_file_is_remembered_only_as_long(outside: Outside) -> None:
    device = await running_one(outside)

    assert dict(device.loop._bench.means.fetching) == {}


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


async def test_an_incompatible_version_names_everything_it_lacks(outside: Outside) -> None:
    odd = bundle(version=4, needs=Needs(arch=("riscv64",), minimum_runtime="9.0"))
    outside.add(odd)
    device = await running_one(outside)
    device.direct(2, odd.assignment())

    await device.settle()

    assert (device.install.state, device.install.code) == (State.FAILED, "incompatible")
    assert "riscv64" in device.install.detail
    assert "9.0" in device.install.detail
    assert device.inner.installs.quarantined(odd.sha256) is None


async def test_an_unexpected_error_is_logged_and_the_install_goes_on(
    outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    outside.errors["self-test"] = [ZeroDivisionError("a bug")]
    device = Device(outside)
    device.direct(1, ONE.assignment())

    await device.settle()

    assert device.install.state is State.COMMITTED
    assert "install.internal" in caplog.text


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


def seen(device: Device, state: State) -> bool:
    return any(
        change.name == f"install.{state}" and change.version == 2 for change in device.changes
    )


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


async def test_a_restart_loads_what_ran_before(outside: Outside) -> None:
    device = await running_one(outside)

    await device.settle()

    assert device.deployments.answers() == 1
    assert (device.self_test.ran, device.fetcher.fetched, device.changes) == ([], [], [])


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


async def test_errors_are_told_apart_by_code_in_the_changes(outside: Outside) -> None:
    outside.failing[TWO.sha256] = SelfTestMismatch("off")
    device = await running_one(outside)
    device.direct(2, TWO.assignment())

    await device.settle()

    last: list[tuple[str, str]] = [(one.name, one.code) for one in device.changes[-2:]]
    assert last == [
        ("install.reverting", "self-test-mismatch"),
        ("install.failed", "self-test-mismatch"),
    ]


async def test_a_stored_directive_that_can_not_be_read_disturbs_nothing(
    outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    device = await running_one(outside)
    device.inner.installs.save_directive(b"\xff\xff", 2)
    async with device.running():
        await device.spin()
        device.direct(3, TWO.assignment())
        await device.until(lambda: device.loop.is_settled)

    assert "install.not-followed" in caplog.text
    assert device.versions() == (2, 2)


def test_the_world_makes_different_bundles() -> None:
    assert ONE.sha256 != TWO.sha256
    assert replace(ONE, files={}).sha256 == ONE.sha256
    assert issubclass(TransportError, AgentError)
