"""Steps (1) and (2) of ``agent.trust.verify``: only who holds enough root keys says whom to trust."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.store.device_store import TrustedState
from controller.signing.publication import OnlineSigners
from tests.attacks.world import (
    DeviceUnderAttack,
    World,
    deployed,
    manifest,
    new_key,
    outcome,
    resigned,
)


def altered(state: TrustedState, name: str, data: bytes | None) -> TrustedState:
    kept = {key: value for key, value in state.metadata.items() if key != name}
    return replace(state, metadata=kept if data is None else kept | {name: data})


TAMPERINGS: dict[str, Callable[[TrustedState], TrustedState]] = {
    "a torn timestamp": lambda state: altered(state, "timestamp.json", b""),
    "a lost timestamp": lambda state: altered(state, "timestamp.json", None),
    "a lost role": lambda state: altered(state, "models-digits.json", None),
    "an altered root": lambda state: altered(
        state, "root.json", state.metadata["root.json"].replace(b'"version":1', b'"version":2')
    ),
    "a file too many": lambda state: altered(state, "models-other.json", b"{}"),
    "a lost seal": lambda state: altered(state, "seal.json", None),
    "a torn seal": lambda state: altered(state, "seal.json", state.metadata["seal.json"][:40]),
    "all metadata lost": lambda state: replace(state, metadata={}),
    "a forgotten recall": lambda state: replace(state, recalled=frozenset()),
    "a lowered floor": lambda state: replace(state, floors={"digits": 1}),
    "a clock set back": lambda state: replace(state, latest_time=5),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_1_damaged_trust_refuses_every_update_and_frees_nothing(
    world: World, device: DeviceUnderAttack, tampering: str
) -> None:
    world.recall("digits", 1, floor=2)
    await device.refresh("digits")
    device.store.trust.save(TAMPERINGS[tampering](device.store.trust.load()))

    assert await outcome(device.refresh("digits")) == "trust-damaged"
    assert await outcome(device.verify(world.assignment("digits", 2))) == "trust-damaged"
    assert (
        await outcome(device.trust.accept_directive(world.directive(9), world.fetch))
        == "trust-damaged"
    )
    assert device.trust.objection(deployed(manifest("digits", 2))) is None


async def test_1_another_pinned_root_starts_a_trust_of_its_own(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    elsewhere = World()

    moved = DeviceUnderAttack(elsewhere, device.store)
    await moved.refresh()

    assert moved.store.trust.load().metadata["root.json"] == elsewhere.root


async def test_2_a_root_that_its_predecessor_has_not_signed_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh()
    mine = [new_key(), new_key()]
    root = world.current("root")
    root.signed.version = 2
    root.signed.keys |= {key.public_key.keyid: key.public_key for key in mine}
    root.signed.roles["root"].keyids = [key.public_key.keyid for key in mine]
    world.forged["2.root.json"] = resigned(root, mine)

    assert await outcome(device.refresh()) == "bad-signature"
    assert device.versions()["root.json"] == 1


async def test_2_a_root_that_its_own_keys_have_not_signed_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh()
    root = world.current("root")
    root.signed.version = 2
    stranger = new_key().public_key
    root.signed.keys[stranger.keyid] = stranger
    root.signed.roles["root"].keyids = [stranger.keyid]
    root.signed.roles["root"].threshold = 1
    for key in list(root.signed.keys):
        if not any(key in role.keyids for role in root.signed.roles.values()):
            del root.signed.keys[key]
    world.forged["2.root.json"] = resigned(root, world.keys.root)

    assert await outcome(device.refresh()) == "bad-signature"


async def test_2_one_stolen_root_key_of_two_is_not_enough(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh()
    root = world.current("root")
    root.signed.version = 2
    root.signed.roles["timestamp"].threshold = 1
    world.forged["2.root.json"] = resigned(root, world.keys.root[:1])

    assert await outcome(device.refresh()) == "bad-signature"


async def test_2_the_old_root_under_the_next_name_is_a_rollback(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh()
    world.forged["2.root.json"] = world.root

    assert await outcome(device.refresh()) == "rollback-attack"


async def test_2_a_root_that_skips_a_version_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh()
    root = world.current("root")
    root.signed.version = 3
    world.forged["2.root.json"] = resigned(root, world.keys.root)

    assert await outcome(device.refresh()) == "mix-and-match"


async def test_2_a_rotated_root_is_followed_and_the_old_keys_count_no_more(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    stolen = world.keys.online
    world.rotate_root(online=OnlineSigners(new_key(), new_key()))
    world.rotate_root()
    await device.refresh("digits")
    assert device.versions()["root.json"] == 3

    forged = world.current("timestamp")
    forged.signed.version += 1
    world.forged["timestamp.json"] = resigned(forged, [stolen.timestamp])

    assert await outcome(device.refresh("digits")) == "bad-signature"


async def test_2_a_new_device_follows_every_root_since_the_pinned_one(world: World) -> None:
    for _ in range(3):
        world.rotate_root()
    device = DeviceUnderAttack(world)

    await device.refresh("digits")

    assert device.versions()["root.json"] == 4
    assert world.asked[:4] == ["2.root.json", "3.root.json", "4.root.json", "5.root.json"]
