"""Steps (7) to (16) of ``agent.trust.verify``: who directs the device can only choose among what the
model's own approvers have signed, and have not recalled."""

import hashlib
from typing import Any

import msgspec
import pytest

from agent.errors import TransportError
from agent.install.record import Slot
from controller.signing import repository
from controller.signing.roles import DEFAULT_LIFETIMES
from protos.documents import Assignment, Directive
from protos.keys import CryptoSigner
from protos.tuf import DelegatedRole, Metadata, TargetFile
from tests.attacks.world import (
    DEVICE,
    DeviceUnderAttack,
    World,
    deployed,
    manifest,
    new_key,
    outcome,
    sealed,
)


async def accept(device: DeviceUnderAttack, envelope: bytes) -> str:
    return await outcome(device.trust.accept_directive(envelope, device.world.fetch))


def but(assignment: Assignment, **fields: Any) -> Assignment:
    return msgspec.structs.replace(assignment, **fields)


def forged_role(world: World, *targets: TargetFile) -> Metadata[Any]:
    """The model's next role, as somebody would like it."""
    role = world.current("models-digits")
    role.signed.version += 1
    role.signed.targets |= {target.path: target for target in targets}
    return role


async def test_7_a_directive_of_the_director_is_accepted_and_kept(
    world: World, device: DeviceUnderAttack
) -> None:
    envelope = world.directive(4, world.assignment("digits", 2))

    directive = await device.trust.accept_directive(envelope, world.fetch)

    assert [one.version for one in directive.assignments] == [2]
    assert device.store.installs.generation() == 4
    assert device.store.installs.directive() == envelope


async def test_7_a_directive_cannot_be_judged_before_any_metadata(
    world: World, device: DeviceUnderAttack
) -> None:
    assert await outcome(device.trust.accept_directive(world.directive(1))) == "not-yet-trusted"


async def test_7a_a_directive_of_anybody_else_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    document = Directive(device=DEVICE, generation=9, issued_at=0)
    others = (new_key(), world.keys.targets, world.keys.online.timestamp, world.keys.root[0])

    for signer in (*others, *world.keys.approvers["digits"]):
        assert await accept(device, sealed(document, signer)) == "bad-signature"
    assert device.store.installs.generation() == 0


async def test_7a_an_altered_directive_is_refused(world: World, device: DeviceUnderAttack) -> None:
    envelope = world.directive(4).replace(b'"generation":4', b'"generation":5')

    assert await accept(device, envelope) == "bad-signature"


def dismiss_the_director(world: World) -> CryptoSigner:
    """The administrators name another director; returns the old one's key."""
    successor = new_key()
    targets = repository.with_director(
        world.current("targets").signed,
        [successor.public_key],
        world.clock.now(),
        DEFAULT_LIFETIMES,
    )
    world.force("targets", Metadata(targets), [world.keys.targets])
    dismissed, world.keys.director = world.keys.director, successor
    return dismissed


async def test_7a_the_keys_of_a_dismissed_director_count_no_more(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh()
    dismissed = dismiss_the_director(world)

    assert await accept(device, world.directive(1)) == "accepted"
    world.keys.director = dismissed
    assert await accept(device, world.directive(2)) == "bad-signature"


@pytest.mark.parametrize(
    ("envelope", "code"),
    [(b"\xff\xff", "malformed"), (b"", "malformed"), (b"x" * (2 << 20), "endless-data")],
)
async def test_7a_what_is_no_envelope_is_refused(
    device: DeviceUnderAttack, envelope: bytes, code: str
) -> None:
    assert await accept(device, envelope) == code


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "../digits"},
        {"slot": "Champion!"},
        {"version": 0},
        {"sha256": "ABC"},
        {"length": -1},
        {"length": 1 << 40},
    ],
)
async def test_7a_a_directive_with_an_impossible_field_names_it(
    world: World, device: DeviceUnderAttack, wrong: dict[str, Any]
) -> None:
    envelope = world.directive(1, but(world.assignment("digits", 2), **wrong))

    with pytest.raises(Exception, match=f"assignments\\[0\\].{next(iter(wrong))}") as refused:
        await device.trust.accept_directive(envelope, world.fetch)

    assert refused.value.code == "malformed"  # type: ignore[attr-defined]


async def test_7a_two_versions_for_one_slot_are_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    both = world.directive(1, world.assignment("digits", 1), world.assignment("digits", 2))

    assert await accept(device, both) == "malformed"


async def test_7b_a_directive_for_another_device_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    assert await accept(device, world.directive(1, device="press-8")) == "wrong-device"


async def test_7c_an_older_directive_is_refused_after_a_restart_too(
    world: World, device: DeviceUnderAttack
) -> None:
    older = world.directive(3, world.assignment("digits", 1))
    await accept(device, world.directive(4, world.assignment("digits", 2)))

    assert await accept(device, older) == "stale-directive"
    assert await accept(DeviceUnderAttack(world, device.store), older) == "stale-directive"
    assert device.store.installs.generation() == 4


@pytest.mark.parametrize("generation", [2**53 - 1, 3, 2])
async def test_7c_fast_forward_is_recovered_from_by_dismissing_the_director(
    world: World, device: DeviceUnderAttack, generation: int
) -> None:
    """The thief of the director's key has signed the highest generation that there can be."""
    await device.refresh()
    forged = world.directive(generation, world.assignment("digits", 1))
    assert await accept(device, forged) == "accepted"
    assert await accept(device, world.directive(2)) == "stale-directive"
    dismiss_the_director(world)

    assert await accept(device, world.directive(2)) == "accepted"

    assert device.store.installs.generation() == 2
    assert await accept(device, forged) == "bad-signature"
    assert await accept(device, world.directive(1)) == "stale-directive"


@pytest.mark.parametrize("generation", [0, -1, 2**53, 2**64])
async def test_7c_a_generation_that_no_store_can_keep_is_malformed(
    world: World, device: DeviceUnderAttack, generation: int
) -> None:
    await device.refresh()

    assert await accept(device, world.directive(generation)) == "malformed"


async def test_7c_a_directive_may_come_twice_but_not_say_two_things(
    world: World, device: DeviceUnderAttack
) -> None:
    envelope = world.directive(4, world.assignment("digits", 2))
    await accept(device, envelope)
    world.clock.advance(minutes=1)

    assert await accept(device, envelope) == "accepted"
    assert await accept(device, world.directive(4, world.assignment("digits", 2))) == "accepted"
    other = world.directive(4, world.assignment("digits", 1))
    assert await accept(device, other) == "stale-directive"
    assert device.store.installs.directive() == envelope


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


def cut_off(world: World) -> None:
    def cut(name: str) -> None:
        raise TransportError(f"no answer for {name}")

    world.on_ask = cut


def republish(world: World, role: str, metadata: Metadata[Any]) -> None:
    """Makes these very bytes current, signatures and all, under a new version of the snapshot."""
    snapshot, timestamp = world.current("snapshot"), world.current("timestamp")
    data = metadata.to_bytes()
    world.forged[f"{metadata.signed.version}.{role}.json"] = data
    meta = snapshot.signed.meta[f"{role}.json"]
    meta.version, meta.length, meta.hashes = metadata.signed.version, None, None
    snapshot.signed.version += 1
    snapshot.sign(world.keys.online.snapshot)
    world.forged[f"{snapshot.signed.version}.snapshot.json"] = snapshot.to_bytes()
    meta = timestamp.signed.snapshot_meta
    meta.version, meta.length, meta.hashes = snapshot.signed.version, None, None
    timestamp.signed.version += 1
    timestamp.sign(world.keys.online.timestamp)
    world.forged["timestamp.json"] = timestamp.to_bytes()
