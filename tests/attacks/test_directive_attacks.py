"""Step (7) of ``agent.trust.verify``: only the director directs, this device, and never back."""

from typing import Any

import pytest

from controller.signing import repository
from controller.signing.roles import DEFAULT_LIFETIMES
from protos.documents import Directive
from protos.keys import CryptoSigner
from protos.tuf import Metadata
from tests.attacks.forgery import accept, but
from tests.attacks.world import DEVICE, DeviceUnderAttack, World, new_key, outcome, sealed


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
