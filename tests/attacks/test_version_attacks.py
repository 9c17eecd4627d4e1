"""Steps (9) to (16) of ``agent.trust.verify``: who directs the device can only choose among what the
model's own approvers have signed, and have not recalled."""

import hashlib
from typing import Any

import pytest

from agent.install.record import Slot
from controller.signing import repository
from protos.documents import Assignment
from protos.tuf import TargetFile
from tests.attacks.forgery import accept, but, cut_off, forged_role
from tests.attacks.world import DeviceUnderAttack, World, deployed, manifest, outcome


async def test_9a_a_path_of_another_model_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    world.publish(manifest("other", 2))
    other = world.assignment("other", 2)
    wrong_software = but(other, model="digits")
    borrowed_path = but(world.assignment("digits", 2), target=other.target)

    assert await outcome(device.verify(wrong_software)) == "not-listed"
    assert await outcome(device.verify(borrowed_path)) == "not-listed"


async def test_9b_approvers_of_one_model_cannot_list_versions_of_another(
    world: World, device: DeviceUnderAttack
) -> None:
    foreign = manifest("digits", 3)
    world.register(foreign)
    world.publish(manifest("other", 1))
    role = world.current("models-other")
    role.signed.version += 1
    target = repository.target_file(foreign, foreign.encode())
    role.signed.targets[target.path] = target
    world.force("models-other", role, world.keys.approvers["other"])

    assert await outcome(device.verify(world.assignment("digits", 3))) == "not-listed"


async def test_9b_a_version_that_waits_for_signatures_is_not_listed(
    world: World, device: DeviceUnderAttack
) -> None:
    world.register(manifest("digits", 3))
    world.propose("digits", 3)

    assert await outcome(device.verify(world.assignment("digits", 3))) == "not-listed"


async def test_9b_a_stolen_controller_can_only_choose_among_approved_versions(
    world: World, device: DeviceUnderAttack
) -> None:
    """It holds the director's key and both online keys, and lists a version by itself."""
    evil = manifest("digits", 3)
    world.register(evil)
    role = forged_role(world, repository.target_file(evil, evil.encode()))
    online = [world.keys.online.snapshot, world.keys.online.timestamp, world.keys.director]
    assert await accept(device, world.directive(7, world.assignment("digits", 3))) == "accepted"
    assert await outcome(device.verify(world.assignment("digits", 3))) == "not-listed"

    world.force("models-digits", role, online)
    assert await outcome(device.verify(world.assignment("digits", 3))) == "bad-signature"
    assert device.versions()["models-digits.json"] == 2


async def test_9b_an_approved_version_remains_a_choice(
    world: World, device: DeviceUnderAttack
) -> None:
    """A deliberate rollback is a newer directive to an older version that is still listed."""
    await accept(device, world.directive(7, world.assignment("digits", 2)))
    directive = await device.trust.accept_directive(
        world.directive(8, world.assignment("digits", 1))
    )

    assert await outcome(device.verify(directive.assignments[0])) == "accepted"


@pytest.mark.parametrize("field", [{"sha256": "ab" * 32}, {"length": 5}])
async def test_10_a_directive_that_disagrees_with_the_approvers_is_refused(
    world: World, device: DeviceUnderAttack, field: dict[str, Any]
) -> None:
    assignment = but(world.assignment("digits", 2), **field)

    assert await outcome(device.verify(assignment)) == "not-listed"


async def test_11_a_recalled_version_is_neither_installed_nor_run_nor_gone_back_to(
    world: World, device: DeviceUnderAttack
) -> None:
    running, fallback = deployed(manifest("digits", 2)), deployed(manifest("digits", 1))
    device.store.installs.save_slot(Slot("digits", "champion", running, fallback))
    await device.refresh()
    assert device.trust.objection(running) is None
    assert device.trust.objection(fallback) is None

    world.recall("digits", 1)
    refreshed = await device.refresh()

    assert refreshed.limits_changed
    assert device.trust.objection(running) is None
    refusal = device.trust.objection(fallback)
    assert refusal is not None
    assert refusal.code == "recalled"
    assert await outcome(device.verify(world.assignment("digits", 1))) == "recalled"


async def test_11_a_recall_is_for_ever_even_if_the_list_is_signed_away(
    world: World, device: DeviceUnderAttack
) -> None:
    world.recall("digits", 1)
    await device.refresh("digits")
    made = manifest("digits", 1)
    role = forged_role(world, repository.target_file(made, made.encode()))
    role.signed.unrecognized_fields.clear()
    world.force("models-digits", role, world.keys.approvers["digits"])

    assert await outcome(device.verify(world.assignment("digits", 1))) == "recalled"
    assert DeviceUnderAttack(world, device.store).trust.objection(deployed(made)) is not None


async def test_11_approvers_of_one_model_cannot_recall_versions_of_another(
    world: World, device: DeviceUnderAttack
) -> None:
    world.publish(manifest("other", 1))
    role = world.current("models-other")
    role.signed.version += 1
    role.signed.unrecognized_fields["x-muster"] = {
        "recalled": [manifest("digits", 2).digest],
        "release_floor": 50,
    }
    world.force("models-other", role, world.keys.approvers["other"])

    await device.refresh("other", "digits")

    assert device.trust.objection(deployed(manifest("digits", 2))) is None
    assert await outcome(device.verify(world.assignment("digits", 2))) == "accepted"
    assert await outcome(device.verify(world.assignment("other", 1))) == "below-floor"


@pytest.mark.parametrize("field", [{"recalled": ["x"]}, {"release_floor": -1}, 7])
async def test_11_a_recall_that_cannot_be_read_stops_installs_of_the_model(
    world: World, device: DeviceUnderAttack, field: object
) -> None:
    role = forged_role(world)
    role.signed.unrecognized_fields["x-muster"] = field
    await device.refresh("digits")
    world.force("models-digits", role, world.keys.approvers["digits"])

    for _ in range(2):
        assert await outcome(device.verify(world.assignment("digits", 2))) == "malformed"


@pytest.mark.parametrize("cut", [b"", b" "])
async def test_12_a_tampered_manifest_is_refused(
    world: World, device: DeviceUnderAttack, cut: bytes
) -> None:
    assignment = world.assignment("digits", 2)
    data = world.blobs[assignment.sha256]
    world.blobs[assignment.sha256] = data[:-1] + cut

    assert await outcome(device.verify(assignment)) == "hash-mismatch"


async def test_13_a_signed_manifest_of_another_version_is_mix_and_match(
    world: World, device: DeviceUnderAttack
) -> None:
    """Approvers who are tricked into signing one version's path for another's manifest."""
    data = manifest("digits", 9).encode()
    digest = hashlib.sha256(data).hexdigest()
    world.blobs[digest] = data
    role = forged_role(world, TargetFile(len(data), {"sha256": digest}, "models/digits/3.json"))
    world.force("models-digits", role, world.keys.approvers["digits"])
    wanted = Assignment(
        model="digits", version=3, target="models/digits/3.json", sha256=digest, length=len(data)
    )

    assert await outcome(device.verify(wanted)) == "mix-and-match"


async def test_13_a_release_counter_other_than_the_signed_one_is_mix_and_match(
    world: World, device: DeviceUnderAttack
) -> None:
    made = manifest("digits", 3, counter=3)
    world.register(made)
    target = repository.target_file(made, made.encode())
    target.unrecognized_fields["custom"]["release_counter"] = 30
    world.force("models-digits", forged_role(world, target), world.keys.approvers["digits"])

    assert await outcome(device.verify(world.assignment("digits", 3))) == "mix-and-match"


async def test_14_a_version_below_the_floor_is_refused_wherever_it_stands(
    world: World, device: DeviceUnderAttack
) -> None:
    for version in (3, 4):
        world.publish(manifest("digits", version))
    await device.refresh("digits")
    world.recall("digits", 3, floor=4)

    assert await outcome(device.verify(world.assignment("digits", 2))) == "below-floor"
    assert await outcome(device.verify(world.assignment("digits", 3))) == "recalled"
    assert await outcome(device.verify(world.assignment("digits", 4))) == "accepted"
    assert device.trust.objection(deployed(manifest("digits", 2))) is not None


async def test_14_a_floor_never_falls(world: World, device: DeviceUnderAttack) -> None:
    world.recall("digits", 1, floor=2)
    await device.refresh("digits")
    role = forged_role(world)
    role.signed.unrecognized_fields["x-muster"]["release_floor"] = 0
    world.force("models-digits", role, world.keys.approvers["digits"])

    await device.refresh("digits")

    assert device.store.trust.load().floors == {"digits": 2}


@pytest.mark.parametrize(
    ("needs", "code"),
    [
        ("1.4", "accepted"),
        ("1.4.0", "accepted"),
        ("1.4.1", "incompatible"),
        ("2", "incompatible"),
        ("1.10", "incompatible"),
        ("soon", "malformed"),
    ],
)
async def test_15_a_version_for_a_newer_agent_is_refused(
    world: World, device: DeviceUnderAttack, needs: str, code: str
) -> None:
    world.publish(manifest("digits", 3, agent=needs))

    assert await outcome(device.verify(world.assignment("digits", 3))) == code


async def test_16_without_a_link_the_stored_metadata_decides_until_it_expires(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    cut_off(world)

    assert await outcome(device.verify(world.assignment("digits", 2))) == "accepted"
    world.clock.advance(hours=25)
    assert await outcome(device.verify(world.assignment("digits", 2))) == "expired-metadata"
    assert device.trust.objection(deployed(manifest("digits", 2))) is None


async def test_16_without_a_link_and_without_metadata_nothing_is_verified(
    world: World, device: DeviceUnderAttack
) -> None:
    cut_off(world)

    assert await outcome(device.verify(world.assignment("digits", 2))) == "transport"
    assert device.versions() == {"root.json": 1}


async def test_16_an_expired_model_role_stops_only_its_own_model(
    world: World, device: DeviceUnderAttack
) -> None:
    world.publish(manifest("other", 1))
    role = forged_role(world)
    role.signed.expires = role.signed.expires.replace(year=2020)
    world.force("models-digits", role, world.keys.approvers["digits"])

    assert await outcome(device.verify(world.assignment("digits", 2))) == "expired-metadata"
    assert await outcome(device.verify(world.assignment("other", 1))) == "accepted"
