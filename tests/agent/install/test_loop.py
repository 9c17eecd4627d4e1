"""A version is brought up, proven or rolled back, and told of."""

from dataclasses import replace

import pytest

from agent.errors import AgentError, SelfTestMismatch, TransportError
from agent.install.machine import State
from protos.manifest import Needs
from tests.agent.install.outside import KEY, Outside, bundle
from tests.agent.install.running import ONE, TWO, running_one
from tests.agent.install.world import Device


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
