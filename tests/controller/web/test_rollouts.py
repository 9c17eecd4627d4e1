"""What people do to rollouts over the API: who may, what it answers, what the audit keeps."""

from typing import Any

import pytest

from controller.access.operator import Role
from controller.fleet.device import SlotState
from controller.registry import version as registry
from controller.rollout.loop import RolloutLoop
from protos.documents import Directive
from protos.envelope import peek
from protos.keys import CryptoSigner
from tests.controller.rollout.world import START, Post, device, registered
from tests.controller.web.api import Api

DIRECTOR = CryptoSigner.generate_ed25519()
POLICY: dict[str, Any] = {
    "stages": [
        {"name": "canary", "count": 2, "soak_seconds": 0},
        {"name": "all", "percent": 100, "soak_seconds": 0, "approval": True},
    ]
}
NAMES = ("pi-01", "pi-02", "pi-03", "pi-04")
VERBS = ("pause", "resume", "approve", "retry")


async def turn(api: Api) -> None:
    post = Post()
    post.there |= set(NAMES)
    await RolloutLoop(api.store, post, DIRECTOR, api.clock).turn()
    api.clock.at += 1


def told(api: Api) -> list[str]:
    with api.store.read() as tx:
        return [name for name in NAMES if tx.rollouts.directive(name) is not None]


def report(api: Api, name: str, state: str) -> None:
    with api.store.begin() as tx:
        signed = tx.rollouts.directive(name)
        assert signed is not None
        (one,) = peek(signed.envelope, Directive).assignments
        slot = SlotState(
            name,
            "digits",
            "champion",
            1,
            running=state == "committed",
            state=state,
            manifest_sha256=one.sha256,
            model_sha256="0" * 64 if state == "committed" else "",
            approvals=1,
            generation=signed.generation,
            counter=1,
            reported_at=api.clock.at,
        )
        tx.devices.replace_slots(name, [slot])


async def begun(api: Api) -> str:
    """A rollout whose canary was told."""
    with api.store.begin() as tx:
        tx.registry.put_model(registry.Model("digits", START, 1))
        tx.registry.put_version(registered("digits", 1))
        for name in NAMES:
            tx.devices.put(device(name, {"site": "berlin"}, {}))
    wish = {"version": "digits/1", "selector": "all", "policy": POLICY}
    made = await api.post("rollouts", wish, Role.OPERATOR)
    await turn(api)
    return str(made["id"])


def audited(api: Api) -> tuple[str, str, str]:
    with api.store.read() as tx:
        last = tx.audit.last()
    assert last is not None
    return last.entry.actor, last.entry.action, last.entry.subject


@pytest.mark.parametrize("verb", VERBS)
async def test_a_viewer_steers_nothing_and_a_stranger_less(api: Api, verb: str) -> None:
    rollout = await begun(api)
    before = audited(api)
    for role, status in ((Role.VIEWER, 403), (None, 401)):
        path = f"rollouts/{rollout}/{verb}"
        assert (await api.refusal("POST", path, role, json={}))[0] == status
    assert audited(api) == before


@pytest.mark.parametrize("verb", VERBS)
async def test_no_rollout_of_that_name_is_found(api: Api, verb: str) -> None:
    assert (await api.refusal("POST", f"rollouts/none/{verb}", json={}))[:2] == (404, "not-found")


async def test_a_rollout_is_paused_with_a_reason_and_resumed_once(api: Api) -> None:
    rollout = await begun(api)
    path = f"rollouts/{rollout}"

    paused = await api.post(f"{path}/pause", {"reason": "until Monday"}, Role.OPERATOR)
    assert (paused["state"], paused["reason"]) == ("paused", "until Monday")
    assert (audited(api), api.asked[-1]) == (("operator", "rollout.pause", rollout), "wake")

    resumed = await api.post(f"{path}/resume", {}, Role.OPERATOR)
    assert (resumed["state"], resumed["reason"]) == ("running", "")
    assert audited(api) == ("operator", "rollout.resume", rollout)
    twice = await api.refusal("POST", f"{path}/resume", json={})
    assert twice == (
        409,
        "conflict",
        f"rollout {rollout!r} is running: resume is not possible",
    )
    assert (await api.refusal("POST", f"{path}/pause", json={"odd": 1}))[0] == 422


async def test_a_stage_waits_until_somebody_approves(api: Api) -> None:
    rollout = await begun(api)
    path = f"rollouts/{rollout}"
    canary = told(api)
    assert len(canary) == 2
    assert (await api.refusal("POST", f"{path}/approve", json={}))[:2] == (409, "conflict")
    for name in canary:
        report(api, name, "committed")
    await turn(api)
    assert told(api) == canary
    shown = await api.get(path)
    assert "  all: waits for approval" in shown["because"]

    await api.post(f"{path}/approve", {}, Role.OPERATOR)
    assert audited(api) == ("operator", "rollout.approve", rollout)
    await turn(api)

    assert told(api) == list(NAMES)


async def test_devices_that_failed_are_asked_again(api: Api) -> None:
    rollout = await begun(api)
    path = f"rollouts/{rollout}"
    first, second = told(api)
    assert (await api.refusal("POST", f"{path}/retry", json={}))[:2] == (409, "conflict")
    report(api, first, "failed")
    report(api, second, "committed")
    await turn(api)
    assert (await api.get(path))["state"] == "paused"
    odd = await api.refusal("POST", f"{path}/retry", json={"devices": ["pi-99"]})
    assert odd[0] == 409
    assert "pi-99" in odd[2]

    assert await api.post(f"{path}/retry", {"devices": [first]}, Role.OPERATOR) == [first]
    assert audited(api) == ("operator", "rollout.retry", rollout)
    await turn(api)

    with api.store.read() as tx:
        signed = tx.rollouts.directive(first)
    assert signed is not None
    (wanted,) = peek(signed.envelope, Directive).assignments
    assert (signed.generation, wanted.attempt) == (2, 2)
    assert (await api.get(path))["state"] == "running"


async def test_a_retry_leaves_a_rollout_paused_that_a_person_has_paused(api: Api) -> None:
    rollout = await begun(api)
    path = f"rollouts/{rollout}"
    await api.post(f"{path}/pause", {"reason": "lunch"})
    report(api, told(api)[0], "failed")

    await api.post(f"{path}/retry", {})

    shown = await api.get(path)
    assert (shown["state"], shown["reason"]) == ("paused", "lunch")


async def test_a_policy_that_can_not_be_is_refused_with_all_that_is_wrong(api: Api) -> None:
    await begun(api)
    stages = [{"name": "half", "percent": 50}, {"name": "half", "percent": 40}]
    wish = {"version": "digits/1", "selector": "all", "policy": {"stages": stages}}

    status, code, detail = await api.refusal("POST", "rollouts", json=wish)

    assert (status, code) == (422, "invalid-input")
    for said in ("two stages bear the name", "above their 50", "percent = 100"):
        assert said in detail
