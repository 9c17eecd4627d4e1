"""The approver's machine against a controller that lies."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from controller.errors import BadSignature, InvalidInput, NotWhatWasShown, TooLarge
from controller.registry.version import Change
from controller.signing import actions, approval, repository
from controller.signing.approval import Shown
from controller.signing.roles import DEFAULT_LIFETIMES
from protos.manifest import Semantic, Tensor
from protos.tuf import Metadata, Targets
from tests.attacks.world import World, manifest, new_key, resigned

MADE = manifest("digits", 2)
SHOWN = Shown("digits", 2, Change.ADD, MADE.encode())


@pytest.fixture
def pending(world: World) -> Metadata[Any]:
    """Metadata that would publish digits/2."""
    world.register(MADE)
    world.propose("digits", 2)
    waiting = world.store._tables.registry.pending("digits", 2)
    assert waiting is not None
    return Metadata.from_bytes(waiting.metadata)


def check(world: World, metadata: Metadata[Any], shown: Shown = SHOWN) -> approval.Checked:
    return approval.check_version(
        world.trusted_image("digits"), metadata.to_bytes(), shown, world.clock.now()
    )


def test_what_was_shown_is_described_and_signed(world: World, pending: Metadata[Any]) -> None:
    checked = check(world, pending)

    assert checked.says == (
        "publishes digits/2",
        "takes nothing; gives nothing",
        "may take 100 ms (99%) and 1 MiB on a device",
        f"model file {2:064x}, 1000 bytes",
        f"manifest {MADE.digest}, {len(MADE.encode())} bytes",
        "2 versions listed afterwards",
    )
    assert (checked.role, checked.version, checked.threshold) == ("models-digits", 2, 2)
    assert checked.signers == ("digits-0", "digits-1", "digits-2")
    signer = world.keys.approvers["digits"][1]
    signature = approval.sign(checked, signer)
    signer.public_key.verify_signature(signature, pending.signed_bytes)


def test_an_approver_sees_the_signature_and_the_metrics_that_the_manifest_is_signed_with() -> None:
    made = msgspec.structs.replace(
        manifest("digits", 2),
        inputs=(Tensor(name="x", dtype="FP32", shape=(-1, 4), semantic=Semantic.NUMERIC),),
        outputs=(Tensor(name="label", dtype="INT64", shape=(-1,), semantic=Semantic.LABEL),),
        metrics={"macro_f1": 0.5, "accuracy": 0.97512},
    )
    world = World()
    world.publish(manifest("digits", 1))
    world.register(made)
    world.propose("digits", 2)
    waiting = world.store._tables.registry.pending("digits", 2)
    assert waiting is not None

    said = check(
        world,
        Metadata.from_bytes(waiting.metadata),
        Shown("digits", 2, Change.ADD, made.encode()),
    ).says

    assert "takes x FP32[-1, 4] numeric; gives label INT64[-1] label" in said
    assert "measured accuracy 0.9751, macro_f1 0.5" in said


def test_the_first_version_of_a_model_can_be_approved(world: World) -> None:
    made = manifest("other", 1)
    world.register(made)
    world.propose("other", 1)

    assert world.approve("other", 1, world.keys.approvers["other"][0]).published


def add_target(metadata: Metadata[Any]) -> None:
    extra = manifest("digits", 9)
    target = repository.target_file(extra, extra.encode())
    metadata.signed.targets[target.path] = target


def swap_target(metadata: Metadata[Any]) -> None:
    other = repository.target_file(manifest("digits", 2), b"something else")
    metadata.signed.targets["models/digits/2.json"] = other


def change_old_target(metadata: Metadata[Any]) -> None:
    metadata.signed.targets["models/digits/1.json"].length += 1


def delegate(metadata: Metadata[Any]) -> None:
    stranger = new_key().public_key
    metadata.signed.delegations = repository.first_targets(
        [stranger], metadata.signed.expires, DEFAULT_LIFETIMES
    ).delegations


LIES: dict[str, tuple[Callable[[Metadata[Any]], object], str]] = {
    "another version besides": (add_target, "it adds the target 'models/digits/9.json'"),
    "another manifest": (swap_target, "it has another target 'models/digits/2.json' than shown"),
    "an old version changed": (change_old_target, "another target 'models/digits/1.json'"),
    "an old version removed": (
        lambda metadata: metadata.signed.targets.pop("models/digits/1.json"),
        "it lacks the target 'models/digits/1.json'",
    ),
    "the version left out": (
        lambda metadata: metadata.signed.targets.pop("models/digits/2.json"),
        "it lacks the target 'models/digits/2.json'",
    ),
    "a recall besides": (
        lambda metadata: metadata.signed.unrecognized_fields.update(
            {"x-muster": {"recalled": [manifest("digits", 1).digest], "release_floor": 0}}
        ),
        "it adds the field 'x-muster'",
    ),
    "a delegation": (delegate, "it adds the field 'approvers of director'"),
    "a jump of the version": (
        lambda metadata: setattr(metadata.signed, "version", 2**31),
        "it has version 2147483648, not 2",
    ),
    "valid for ever": (
        lambda metadata: setattr(
            metadata.signed, "expires", metadata.signed.expires.replace(year=2190)
        ),
        "it would be valid until 2190",
    ),
    "expired": (
        lambda metadata: setattr(
            metadata.signed, "expires", metadata.signed.expires.replace(year=2020)
        ),
        "it expired on 2020",
    ),
    "another specification": (
        lambda metadata: setattr(metadata.signed, "spec_version", "1.0.1"),
        "it has another field 'spec_version' than shown",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_pending_metadata_that_does_anything_else_is_not_signed(
    world: World, pending: Metadata[Any], lie: str
) -> None:
    tamper, objection = LIES[lie]
    tamper(pending)

    with pytest.raises(NotWhatWasShown) as refused:
        check(world, pending)

    assert any(objection in one for one in refused.value.objections)


def test_every_objection_is_listed(world: World, pending: Metadata[Any]) -> None:
    add_target(pending)
    change_old_target(pending)
    pending.signed.expires = pending.signed.expires.replace(year=2020)

    with pytest.raises(NotWhatWasShown) as refused:
        check(world, pending)

    assert len(refused.value.objections) == 3


@pytest.mark.parametrize(
    ("shown", "objection"),
    [
        (Shown("digits", 3, Change.ADD, MADE.encode()), "the manifest is of digits/2"),
        (Shown("other", 2, Change.ADD, MADE.encode()), "the manifest is of digits/2"),
        (Shown("digits", 2, Change.ADD, b"{}"), "the manifest can't be read"),
        (Shown("digits", 2, Change.ADD, b'{"model": "\xff'), "the manifest can't be read"),
        (Shown("digits", 2, Change.RECALL, MADE.encode()), "digits/2 is not published"),
        (Shown("digits", 2, Change.RENEW, MADE.encode()), "adds the target"),
    ],
)
def test_what_the_person_was_told_must_fit(
    world: World, pending: Metadata[Any], shown: Shown, objection: str
) -> None:
    with pytest.raises(NotWhatWasShown, match=objection):
        check(world, pending, shown)


def test_what_is_no_metadata_is_refused(world: World) -> None:
    trusted = world.trusted_image("digits")

    for data, error in (
        (b"{}", InvalidInput),
        (world.root, InvalidInput),
        (b" " * (6 << 20), TooLarge),
    ):
        with pytest.raises(error, match="the pending metadata"):
            approval.check_version(trusted, data, SHOWN, world.clock.now())


def test_fields_nested_without_end_are_refused(world: World, pending: Metadata[Any]) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    pending.signed.unrecognized_fields["x"] = deep

    with pytest.raises(NotWhatWasShown, match=r"nested|adds the field"):
        check(world, pending)


def test_a_recall_does_just_that(world: World) -> None:
    world.publish(MADE)
    with world.store.begin() as tx:
        waiting = actions.propose_recall(tx, "digits", 1, world.act(), 2)
    metadata = Metadata[Targets].from_bytes(waiting.metadata)
    shown = Shown("digits", 1, Change.RECALL, manifest("digits", 1).encode(), 2)

    checked = check(world, metadata, shown)

    assert checked.says[0] == "recalls digits/1 for ever"
    assert "nothing below release counter 2 may run" in checked.says
    for wrong in (
        Shown("digits", 1, Change.RECALL, manifest("digits", 1).encode(), 0),
        Shown("digits", 1, Change.RECALL, manifest("digits", 1, counter=5).encode(), 2),
        Shown("digits", 2, Change.RECALL, MADE.encode(), 2),
    ):
        with pytest.raises(NotWhatWasShown):
            check(world, metadata, wrong)
    metadata.signed.unrecognized_fields["x-muster"]["recalled"] = []
    with pytest.raises(NotWhatWasShown, match="x-muster"):
        check(world, metadata, shown)


def test_present_metadata_that_nobody_signed_is_no_base_to_compare_with(world: World) -> None:
    """A controller that shows a made-up present could slip a version in unseen."""
    tables = world.store._tables.metadata
    targets = tables.current("targets")
    assert targets is not None
    present = world.current("models-digits")
    add_target(present)
    made_up = resigned(present, world.keys.approvers["digits"][:1])

    with pytest.raises(BadSignature, match="1 of the 2 keys"):
        approval.trusted_image(world.root, [], targets, made_up, "digits")
    forged = resigned(world.current("targets"), [new_key()])
    with pytest.raises(BadSignature, match="targets"):
        approval.trusted_image(world.root, [], forged, None, "digits")
    own = resigned(world.current("root"), [new_key(), new_key()])
    with pytest.raises(BadSignature, match="root"):
        approval.trusted_image(own, [], targets, None, "digits")


def test_new_approvers_are_shown_all_that_former_ones_listed(
    world: World, pending: Metadata[Any]
) -> None:
    successor = new_key()
    world.delegate("digits", [successor], 1)

    checked = check(world, pending)

    assert checked.says[-3:] == (
        "former approvers signed what is listed; from now on you vouch for all of it:",
        f"models/digits/1.json with manifest {manifest('digits', 1).digest}",
        f"models/digits/2.json with manifest {MADE.digest}",
    )
    tables = world.store._tables.metadata
    targets, strangers = tables.current("targets"), world.current("targets")
    assert targets is not None
    strangers.signed.delegations.roles["models-digits"].keyids = [successor.public_key.keyid]
    forged = resigned(world.current("models-digits"), [successor])
    made_up = resigned(strangers, [new_key()])
    mixed = resigned(world.current("models-digits"), [new_key()])
    assert approval.trusted_image(world.root, [], targets, forged, "digits").inherited is False
    with pytest.raises(BadSignature, match="0 of the 1"):
        approval.trusted_image(world.root, [], targets, mixed, "digits", [made_up, targets])


def test_the_chain_of_roots_is_followed_without_gaps(world: World) -> None:
    for _ in range(2):
        world.rotate_root()
    assert world.trusted_image("digits").root.version == 3
    tables = world.store._tables.metadata
    third, targets = tables.get("3.root.json"), tables.current("targets")
    assert third is not None
    assert targets is not None

    with pytest.raises(NotWhatWasShown, match="root 3 does not follow 1"):
        approval.trusted_image(world.root, [third], targets, None, "digits")


def test_an_administrator_signs_the_shown_approvers_and_nothing_else(world: World) -> None:
    approvers = [repository.named(new_key().public_key, name) for name in ("eve", "fay")]
    with world.store.begin() as tx:
        data = actions.propose_delegation(tx, "faces", approvers, 2, world.act())
    trusted, now = world.trusted_image("digits"), world.clock.now()

    checked = approval.check_delegation(trusted, data, "faces", approvers, 2, now)

    assert checked.says == ("versions of faces need 2 of 2: eve, fay",)
    assert checked.role == "targets"
    with pytest.raises(NotWhatWasShown, match="another field 'approvers of models-faces'"):
        approval.check_delegation(trusted, data, "faces", approvers, 1, now)
    pending = Metadata[Targets].from_bytes(data)
    assert pending.signed.delegations is not None
    assert pending.signed.delegations.roles is not None
    pending.signed.delegations.roles["models-digits"].threshold = 1
    with pytest.raises(NotWhatWasShown, match="another field 'approvers of models-digits'"):
        approval.check_delegation(trusted, pending.to_bytes(), "faces", approvers, 2, now)
    pending = Metadata[Targets].from_bytes(data)
    add_target(pending)
    with pytest.raises(NotWhatWasShown, match="adds the target"):
        approval.check_delegation(trusted, pending.to_bytes(), "faces", approvers, 2, now)


def test_clocks_may_differ_a_little(world: World, pending: Metadata[Any]) -> None:
    trusted, behind = world.trusted_image("digits"), world.clock.now() - timedelta(hours=23)

    assert approval.check_version(trusted, pending.to_bytes(), SHOWN, behind).version == 2
