"""Step (8) of ``agent.trust.verify``: enough of the model's own approvers have signed the version."""

import pytest

from controller.signing import repository
from controller.signing.roles import DEFAULT_LIFETIMES
from protos.tuf import DelegatedRole, Metadata
from tests.attacks.forgery import but, forged_role, republish
from tests.attacks.world import DeviceUnderAttack, World, manifest, new_key, outcome


async def test_8_an_approved_version_is_verified_with_the_number_of_its_approvals(
    world: World, device: DeviceUnderAttack
) -> None:
    verified = await device.verify(world.assignment("digits", 2))

    assert verified.manifest == manifest("digits", 2)
    assert verified.approvals == 2


async def test_8_one_approval_of_two_is_too_few_even_with_all_online_keys(
    world: World, device: DeviceUnderAttack
) -> None:
    made = manifest("digits", 3)
    world.register(made)
    role = forged_role(world, repository.target_file(made, made.encode()))
    world.force("models-digits", role, world.keys.approvers["digits"][:1])

    with pytest.raises(Exception, match="1 of 2 approvals") as refused:
        await device.verify(world.assignment("digits", 3))

    assert refused.value.code == "too-few-approvals"  # type: ignore[attr-defined]


async def test_8_a_role_without_any_signature_has_too_few_approvals(
    world: World, device: DeviceUnderAttack
) -> None:
    world.force("models-digits", forged_role(world), [])

    assert await outcome(device.verify(world.assignment("digits", 2))) == "too-few-approvals"


async def test_8_strangers_signatures_are_no_approvals(
    world: World, device: DeviceUnderAttack
) -> None:
    strangers = [new_key(), new_key(), *world.keys.approvers["other"]]
    world.force("models-digits", forged_role(world), strangers)

    assert await outcome(device.verify(world.assignment("digits", 2))) == "bad-signature"


async def test_8_a_role_that_was_altered_after_signing_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    role = world.current("models-digits")
    signatures = dict(role.signatures)
    role.signed.version += 1
    world.register(manifest("digits", 3))
    data = manifest("digits", 3).encode()
    target = repository.target_file(manifest("digits", 3), data)
    role.signed.targets[target.path] = target
    world.force("models-digits", role, [])
    forged = world.current("models-digits")
    forged.signatures = signatures
    republish(world, "models-digits", forged)

    assert await outcome(device.verify(world.assignment("digits", 3))) == "bad-signature"


async def test_8_one_person_under_two_names_is_one_approval(
    world: World, device: DeviceUnderAttack
) -> None:
    alice = world.keys.approvers["digits"][0]
    twin = repository.named(alice.public_key, "alias")
    twin.keyid = "ab" * 32
    targets = world.current("targets")
    targets.signed.version += 1
    delegations = targets.signed.delegations
    delegations.keys |= {twin.keyid: twin}
    delegations.roles["models-digits"].keyids = [alice.public_key.keyid, twin.keyid]
    world.force("targets", targets, [world.keys.targets])
    role = forged_role(world)
    role.signatures.clear()
    mine = role.sign(alice)
    role.signatures[twin.keyid] = type(mine)(twin.keyid, mine.signature)
    republish(world, "models-digits", role)

    assert await outcome(device.verify(world.assignment("digits", 2))) == "too-few-approvals"


async def test_8_another_models_problem_stops_nobody_else(
    world: World, device: DeviceUnderAttack
) -> None:
    world.publish(manifest("other", 1))
    await device.refresh("digits", "other")
    world.force("models-digits", forged_role(world), [])

    refreshed = await device.refresh("digits", "other")

    assert {name: error.code for name, error in refreshed.problems.items()} == {
        "digits": "too-few-approvals"
    }
    assert await outcome(device.verify(world.assignment("other", 1))) == "accepted"
    assert await outcome(device.verify(world.assignment("digits", 2))) == "too-few-approvals"


async def test_8_a_model_that_nobody_approves_is_not_listed(
    world: World, device: DeviceUnderAttack
) -> None:
    real = world.assignment("digits", 2)
    made_up = but(real, model="nobody", target="models/nobody/2.json")

    assert await outcome(device.verify(made_up)) == "not-listed"


async def test_8_a_model_without_published_versions_is_not_listed(
    world: World, device: DeviceUnderAttack
) -> None:
    world.register(manifest("other", 1))

    assert await outcome(device.verify(world.assignment("other", 1))) == "not-listed"


async def test_8b_a_wider_delegation_before_the_models_own_is_not_taken_for_it(
    world: World, device: DeviceUnderAttack
) -> None:
    thief = new_key()
    targets = world.current("targets")
    targets.signed.version += 1
    delegations = targets.signed.delegations
    wide = DelegatedRole(
        "models-all", [thief.public_key.keyid], 1, terminating=False, paths=["models/*/*"]
    )
    delegations.roles = {"models-all": wide, **delegations.roles}
    delegations.keys[thief.public_key.keyid] = thief.public_key
    world.force("targets", targets, [world.keys.targets])
    listed = repository.with_version(
        None, manifest("digits", 1).encode(), world.clock.now(), DEFAULT_LIFETIMES
    )
    world.force("models-all", Metadata(listed), [thief])

    assert await outcome(device.verify(world.assignment("digits", 2))) == "not-listed"
