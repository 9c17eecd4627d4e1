from dataclasses import replace
from datetime import timedelta

import pytest

from agent.errors import AgentError
from controller.audit import broken_at
from controller.errors import BadSignature, ConfigError, Conflict, InvalidInput, NotFound
from controller.registry.version import Change, Pending, State
from controller.signing import actions, repository
from controller.signing.actions import Founders
from controller.signing.publication import OnlineSigners
from controller.signing.roles import DEFAULT_LIFETIMES
from protos.keys import CryptoSigner
from protos.tuf import Metadata, Root, Targets
from simulations.memory_store.store import MemoryStore
from tests.attacks.world import DeviceUnderAttack, World, manifest, new_key, outcome, resigned


def state(world: World, version: int) -> State:
    found = world.store._tables.registry.version("digits", version)
    assert found is not None
    return found.state


def waiting(world: World, version: int) -> Pending:
    found = world.store._tables.registry.pending("digits", version)
    assert found is not None
    return found


def sign(world: World, version: int, signer: CryptoSigner) -> bytes:
    metadata = Metadata[Targets].from_bytes(waiting(world, version).metadata)
    return bytes.fromhex(signer.sign(metadata.signed_bytes).signature)


def test_a_repository_is_made_once(world: World) -> None:
    founders = Founders([new_key()], 1, [new_key()], 1, [new_key().public_key])

    with pytest.raises(Conflict, match="there already"), world.store.begin() as tx:
        actions.create_repository(tx, founders, world.keys.online, world.act())


def test_founders_keys_bear_the_names_that_people_know(world: World) -> None:
    root, targets, director = new_key(), new_key(), new_key().public_key
    names = {root.public_key.keyid: "root-1", targets.public_key.keyid: "targets"}
    names[director.keyid] = "director"
    store = MemoryStore()
    with store.begin() as tx:
        founders = Founders([root], 1, [targets], 1, [director], names)
        actions.create_repository(tx, founders, world.keys.online, world.act())
        made = Metadata[Root].from_bytes(tx.metadata.current("root") or b"").signed
        top = Metadata[Targets].from_bytes(tx.metadata.current("targets") or b"").signed

    known = {
        name: [repository.holder(made.keys[keyid]) for keyid in role.keyids]
        for name, role in made.roles.items()
    }
    assert (known["root"], known["targets"]) == (["root-1"], ["targets"])
    assert known["snapshot"] == [world.keys.online.snapshot.public_key.keyid[:12]]
    assert top.delegations is not None
    assert [repository.holder(key) for key in top.delegations.keys.values()] == ["director"]


@pytest.mark.parametrize(("keys", "threshold"), [(1, 2), (0, 1)])
def test_a_repository_that_nobody_could_change_is_not_made(
    world: World, keys: int, threshold: int
) -> None:
    store = MemoryStore()
    founders = Founders(world.keys.root[:keys], threshold, [new_key()], 1, [new_key().public_key])

    with pytest.raises(InvalidInput, match="root: threshold"), store.begin() as tx:
        actions.create_repository(tx, founders, world.keys.online, world.act())

    assert store._tables.metadata.current("root") is None


def test_without_a_repository_the_message_says_how_to_get_one() -> None:
    with pytest.raises(Conflict, match="muster init"), MemoryStore().begin() as tx:
        actions.propose_delegation(tx, "digits", [new_key().public_key], 1, World().act())


def test_a_version_is_published_by_the_last_signature_that_was_missing(world: World) -> None:
    world.register(manifest("digits", 2))
    world.propose("digits", 2)
    first, second, third = world.keys.approvers["digits"]

    accepted = world.approve("digits", 2, first)
    assert (len(accepted.signed_by), accepted.threshold, accepted.published) == (1, 2, False)
    assert state(world, 2) is State.VALIDATED
    assert waiting(world, 2).signed_by == (first.public_key.keyid,)
    assert not world.approve("digits", 2, first).published
    assert world.approve("digits", 2, third).published

    assert state(world, 2) is State.PUBLISHED
    assert world.store._tables.registry.pending("digits", 2) is None
    with pytest.raises(NotFound, match="digits/2"), world.store.begin() as tx:
        actions.accept_signature(
            tx, "digits", 2, second.public_key.keyid, b"", world.keys.online, world.act()
        )


def test_a_signature_that_does_not_verify_is_not_stored(world: World) -> None:
    world.register(manifest("digits", 2))
    world.propose("digits", 2)
    world.register(manifest("digits", 3))
    world.propose("digits", 3)
    alice, stranger = world.keys.approvers["digits"][0], new_key()
    keyid = alice.public_key.keyid
    attempts = [
        (stranger.public_key.keyid, sign(world, 2, stranger)),
        (keyid, sign(world, 2, stranger)),
        (keyid, sign(world, 3, alice)),
        (keyid, b""),
        (world.keys.director.public_key.keyid, sign(world, 2, world.keys.director)),
    ]

    for who, sig in attempts:
        with pytest.raises(BadSignature), world.store.begin() as tx:
            actions.accept_signature(tx, "digits", 2, who, sig, world.keys.online, world.act())

    assert waiting(world, 2).signed_by == ()


def test_a_published_version_voids_what_was_signed_on_the_old_base(world: World) -> None:
    for version in (2, 3):
        world.register(manifest("digits", version))
        world.propose("digits", version)
    first, second, _ = world.keys.approvers["digits"]
    world.approve("digits", 3, first)
    before = waiting(world, 3).metadata

    world.approve("digits", 2, first)
    world.approve("digits", 2, second)

    assert waiting(world, 3).signed_by == ()
    assert waiting(world, 3).metadata != before
    assert state(world, 3) is State.VALIDATED
    world.sign_enough("digits", 3)
    assert list(world.current("models-digits").signed.targets) == [
        f"models/digits/{version}.json" for version in (1, 2, 3)
    ]


def test_a_recall_survives_being_rebuilt_with_its_floor(world: World) -> None:
    world.register(manifest("digits", 2))
    world.propose("digits", 2)
    with world.store.begin() as tx:
        actions.propose_recall(tx, "digits", 1, world.act(), 2)
    world.sign_enough("digits", 2)

    world.sign_enough("digits", 1)

    assert (state(world, 1), state(world, 2)) == (State.RECALLED, State.PUBLISHED)
    fields = world.current("models-digits").signed.unrecognized_fields["x-muster"]
    assert fields == {"recalled": [manifest("digits", 1).digest], "release_floor": 2}


def test_what_can_no_longer_be_published_is_withdrawn_with_the_reason(world: World) -> None:
    old = manifest("digits", 2, counter=1)
    world.register(old)
    world.propose("digits", 2)

    world.recall("digits", 1, floor=5)

    assert world.store._tables.registry.pending("digits", 2) is None
    found = world.store._tables.registry.version("digits", 2)
    assert found is not None
    assert found.state is State.REJECTED
    assert "under the floor 5" in found.reasons[-1]


def test_only_what_is_validated_is_proposed_and_only_what_is_published_recalled(
    world: World,
) -> None:
    world.register(manifest("digits", 2))
    with world.store.begin() as tx:
        draft = tx.registry.version("digits", 2)
        assert draft is not None
        tx.registry.put_version(replace(draft, state=State.DRAFT))

    with pytest.raises(Conflict, match="digits/2 is draft"), world.store.begin() as tx:
        actions.propose_version(tx, "digits", 2, world.act())
    with pytest.raises(Conflict, match="digits/2 is draft"), world.store.begin() as tx:
        actions.propose_recall(tx, "digits", 2, world.act())
    with pytest.raises(NotFound, match="digits/9"), world.store.begin() as tx:
        actions.propose_version(tx, "digits", 9, world.act())


def test_proposing_twice_keeps_the_signatures_until_the_proposal_expires(world: World) -> None:
    world.register(manifest("digits", 2))
    world.propose("digits", 2)
    world.approve("digits", 2, world.keys.approvers["digits"][0])
    world.clock.advance(days=2)
    world.propose("digits", 2)
    assert len(waiting(world, 2).signed_by) == 1

    world.clock.advance(days=370)
    world.propose("digits", 2)

    assert waiting(world, 2).signed_by == ()


async def test_a_role_is_renewed_under_other_approvers(world: World) -> None:
    device = DeviceUnderAttack(world)
    world.keys.approvers = {"digits": (new_key(), new_key())}
    world.delegate("digits", world.keys.approvers["digits"], 2)
    assert await outcome(device.verify(world.assignment("digits", 1))) == "bad-signature"

    with world.store.begin() as tx:
        pending = actions.propose_renewal(tx, "digits", world.act())
    assert pending.change is Change.RENEW
    world.sign_enough("digits", 1)

    assert await outcome(device.verify(world.assignment("digits", 1))) == "accepted"
    assert state(world, 1) is State.PUBLISHED


def test_new_approvers_are_on_record_and_the_old_ones_signatures_are_void(world: World) -> None:
    world.register(manifest("digits", 2))
    world.propose("digits", 2)
    first, second, _ = world.keys.approvers["digits"]
    world.approve("digits", 2, first)

    world.delegate("digits", [second, new_key()], 1)

    model = world.store._tables.registry.model("digits")
    assert model is not None
    assert (model.threshold, sorted(model.approvers.values())) == (1, ["digits-0", "digits-1"])
    assert waiting(world, 2).signed_by == ()
    assert world.approve("digits", 2, second).published


def test_a_lower_threshold_publishes_what_has_enough_signatures_now(world: World) -> None:
    world.register(manifest("digits", 2))
    world.propose("digits", 2)
    approvers = world.keys.approvers["digits"]
    world.approve("digits", 2, approvers[0])

    world.delegate("digits", approvers, 1)

    assert state(world, 2) is State.PUBLISHED


def test_targets_that_were_overtaken_or_not_signed_are_refused(world: World) -> None:
    approvers = [new_key().public_key]
    with world.store.begin() as tx:
        data = actions.propose_delegation(tx, "faces", approvers, 1, world.act())
    pending = Metadata[Targets].from_bytes(data)

    with pytest.raises(BadSignature, match="0 of the 1"), world.store.begin() as tx:
        actions.accept_targets(tx, data, world.keys.online, world.act())
    signed = resigned(pending, [new_key()])
    with pytest.raises(BadSignature), world.store.begin() as tx:
        actions.accept_targets(tx, signed, world.keys.online, world.act())
    with pytest.raises(BadSignature):
        actions.add_signature(data, world.keys.targets.public_key, b"\0" * 64)
    signed = resigned(pending, [world.keys.targets])
    world.delegate("digits", world.keys.approvers["digits"], 1)
    with pytest.raises(Conflict, match="propose and sign anew"), world.store.begin() as tx:
        actions.accept_targets(tx, signed, world.keys.online, world.act())
    assert world.store._tables.registry.model("faces") is None


def test_targets_that_would_leave_devices_without_direction_are_refused(world: World) -> None:
    for name, message in (("director", "no key of a director"), ("models-digits", "no approvers")):
        targets = world.current("targets")
        targets.signed.version += 1
        del targets.signed.delegations.roles[name]
        signed = resigned(targets, [world.keys.targets])
        with pytest.raises(InvalidInput, match=message), world.store.begin() as tx:
            actions.accept_targets(tx, signed, world.keys.online, world.act())


def test_a_root_is_followed_only_with_both_signatures_and_the_keys_at_hand(world: World) -> None:
    before = world.current("root").signed
    keys = replace(repository.top_level_keys(before), root=[new_key().public_key], root_threshold=1)
    following = repository.next_root(before, keys, world.clock.now(), DEFAULT_LIFETIMES)

    for signers in (world.keys.root, [new_key()]):
        data = resigned(Metadata(following), signers)
        with pytest.raises(BadSignature), world.store.begin() as tx:
            actions.accept_root(tx, data, world.keys.online, world.act())
    keys = replace(repository.top_level_keys(before), timestamp=new_key().public_key)
    following = repository.next_root(before, keys, world.clock.now(), DEFAULT_LIFETIMES)
    data = resigned(Metadata(following), world.keys.root)
    with pytest.raises(ConfigError, match="timestamp key"), world.store.begin() as tx:
        actions.accept_root(tx, data, world.keys.online, world.act())

    assert world.current("root").signed.version == 1
    with pytest.raises(Conflict, match="does not follow"), world.store.begin() as tx:
        actions.accept_root(tx, world.root, world.keys.online, world.act())


def test_a_wrong_online_key_publishes_nothing(world: World) -> None:
    world.register(manifest("digits", 2))
    world.propose("digits", 2)
    world.approve("digits", 2, world.keys.approvers["digits"][0])
    world.keys.online = OnlineSigners(new_key(), new_key())

    with pytest.raises(ConfigError, match="snapshot key"):
        world.approve("digits", 2, world.keys.approvers["digits"][1])

    assert state(world, 2) is State.VALIDATED
    assert len(waiting(world, 2).signed_by) == 1
    assert world.current("models-digits").signed.version == 1


def test_online_roles_are_signed_anew_only_when_that_is_due(world: World) -> None:
    def resign(**later: float) -> list[str]:
        world.clock.advance(**later)
        with world.store.begin() as tx:
            return list(actions.resign_online(tx, world.keys.online, world.act()))

    assert resign(hours=11) == []
    assert resign(hours=2) == ["timestamp"]
    assert resign(hours=2) == []
    assert resign(days=4) == ["snapshot", "timestamp"]
    timestamp = world.current("timestamp").signed
    assert timestamp.expires - world.clock.now() > timedelta(hours=23)
    assert timestamp.snapshot_meta.version == world.current("snapshot").signed.version


def test_every_action_is_in_the_audit_chain(world: World) -> None:
    world.publish(manifest("digits", 2))
    world.recall("digits", 1)
    records = world.store._tables.audit.records()

    assert broken_at(records) is None
    assert [one.entry.action for one in records if one.entry.subject == "digits/2"] == [
        "version.propose",
        "version.sign",
        "version.sign",
        "version.publish",
    ]
    last = [one.entry for one in records if one.entry.action == "version.publish"][-1]
    assert last.detail["change"] == "recall"
    assert {"root.create", "targets.publish"} <= {one.entry.action for one in records}


async def test_what_the_controller_publishes_a_device_accepts(world: World) -> None:
    device = DeviceUnderAttack(world)
    for version in (2, 3, 4):
        world.publish(manifest("digits", version))
        world.rotate_root()
        world.clock.advance(days=3)
        world.resign()
        try:
            verified = await device.verify(world.assignment("digits", version))
        except AgentError as error:
            raise AssertionError(f"{version}: {error.code}: {error}") from error
        assert verified.approvals == 2
