"""Steps (1) to (6) of ``agent.trust.verify``: who controls the network or the online keys can't go back,
mix, freeze or flood."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.ngclient.updater import Updater

from agent.errors import TransportError
from agent.store.device_store import TrustedState
from agent.store.sqlite_store import SqliteStore
from agent.trust.actions import ImageTrust
from agent.trust.fetcher import BASE_URL, MetadataFetcher
from agent.trust.questions import Questions
from controller.signing.publication import OnlineSigners
from protos.limits import METADATA_BYTES
from protos.tuf import Metadata
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


async def test_3_a_timestamp_of_a_stranger_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    world.forged["timestamp.json"] = resigned(world.current("timestamp"), [new_key()])

    assert await outcome(device.refresh()) == "bad-signature"


async def test_3_a_replayed_older_timestamp_is_a_rollback(
    world: World, device: DeviceUnderAttack
) -> None:
    old = world.fetch("timestamp.json")
    world.new_timestamp()
    await device.refresh()
    world.forged["timestamp.json"] = old

    assert await outcome(device.refresh()) == "rollback-attack"


async def test_3_a_newer_timestamp_of_an_older_snapshot_is_a_rollback(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh()
    forged = world.current("timestamp")
    forged.signed.version += 1
    forged.signed.snapshot_meta.version -= 1
    world.forged["timestamp.json"] = resigned(forged, [world.keys.online.timestamp])

    assert await outcome(device.refresh()) == "rollback-attack"


async def test_3_a_frozen_fleet_is_noticed_and_newer_metadata_is_still_taken(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    running = deployed(manifest("digits", 2))
    world.clock.advance(days=1, hours=1)
    frozen = world.fetch("timestamp.json")
    world.forged["timestamp.json"] = frozen

    assert await outcome(device.refresh("digits")) == "expired-metadata"
    assert await outcome(device.verify(world.assignment("digits", 2))) == "expired-metadata"
    assert device.trust.objection(running) is None

    world.forged.clear()
    world.resign()
    assert await outcome(device.verify(world.assignment("digits", 2))) == "accepted"


async def test_3_a_clock_that_was_set_back_does_not_revive_expired_metadata(
    world: World, device: DeviceUnderAttack
) -> None:
    old = {name: world.fetch(name) for name in ("timestamp.json",)}
    world.clock.advance(hours=30)
    world.resign()
    await device.refresh("digits")
    world.clock.advance(hours=-40)
    world.forged |= old

    assert device.store.trust.load().latest_time > world.clock.now().timestamp()
    assert await outcome(device.refresh("digits")) == "rollback-attack"
    world.forged.clear()
    device.trust = ImageTrust(device.store, world.clock, "1.4.0")
    assert await outcome(device.verify(world.assignment("digits", 2))) == "accepted"


async def test_3_a_stolen_timestamp_key_cannot_move_the_clock_past_what_people_signed(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    forged = world.current("timestamp")
    forged.signed.version += 1
    forged.signed.expires = forged.signed.expires.replace(year=2190)
    forged.signed.unrecognized_fields["x-muster"]["signed_at"] = 2**40
    world.forged["timestamp.json"] = resigned(forged, [world.keys.online.timestamp])

    await outcome(device.refresh("digits"))
    expires = world.current("targets").signed.expires.timestamp()
    assert device.store.trust.load().latest_time < expires

    world.forged.clear()
    world.rotate_root(online=OnlineSigners(new_key(), new_key()))
    assert await outcome(device.verify(world.assignment("digits", 2))) == "accepted"


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
async def test_3_endless_data_is_cut_off_for_every_role(
    world: World, device: DeviceUnderAttack, role: str
) -> None:
    version = world.current(role).signed.version
    name = {"root": "2.root.json", "timestamp": "timestamp.json"}.get(
        role, f"{version}.{role}.json"
    )
    world.forged[name] = b" " * (METADATA_BYTES[role] + 1)

    assert await outcome(device.refresh()) == "endless-data"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"signed": {}}', b"\xff" * 40, b"[" * 9000])
async def test_3_what_is_no_metadata_is_malformed(
    world: World, device: DeviceUnderAttack, data: bytes
) -> None:
    world.forged["timestamp.json"] = data

    assert await outcome(device.refresh()) == "malformed"


async def test_3_metadata_of_another_role_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    world.forged["timestamp.json"] = world.root

    assert await outcome(device.refresh()) == "malformed"


async def test_4_a_snapshot_that_the_timestamp_does_not_name_is_mix_and_match(
    world: World, device: DeviceUnderAttack
) -> None:
    version = world.current("snapshot").signed.version
    world.forged[f"{version}.snapshot.json"] = world.fetch(f"{version - 1}.snapshot.json")

    assert await outcome(device.refresh()) == "mix-and-match"


@pytest.mark.parametrize("role", ["targets", "models-digits"])
async def test_4_online_keys_cannot_roll_a_role_back(
    world: World, device: DeviceUnderAttack, role: str
) -> None:
    await device.refresh("digits")
    snapshot = world.current("snapshot")
    snapshot.signed.meta[f"{role}.json"].version -= 1
    force_snapshot(world, snapshot)

    assert await outcome(device.refresh("digits")) == "rollback-attack"


async def test_4_online_keys_cannot_make_a_role_disappear(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    snapshot = world.current("snapshot")
    del snapshot.signed.meta["models-digits.json"]
    force_snapshot(world, snapshot)

    assert await outcome(device.refresh("digits")) == "rollback-attack"


async def test_4_fast_forward_is_recovered_from_by_rotating_the_online_keys(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    timestamp = world.current("timestamp")
    timestamp.signed.version = 2**31
    world.forged["timestamp.json"] = resigned(timestamp, [world.keys.online.timestamp])
    await device.refresh("digits")
    assert device.versions()["timestamp.json"] == 2**31
    world.forged.clear()
    assert await outcome(device.refresh("digits")) == "rollback-attack"

    world.rotate_root(online=OnlineSigners(new_key(), new_key()))

    assert await outcome(device.refresh("digits")) == "accepted"
    assert device.versions()["timestamp.json"] < 100


async def test_4_newer_metadata_is_kept_even_if_what_follows_is_refused(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    before = world.fetch("timestamp.json")
    world.publish(manifest("digits", 3))
    version = world.current("snapshot").signed.version
    world.forged[f"{version}.snapshot.json"] = TransportError("cut off")
    assert await outcome(device.refresh("digits")) == "transport"

    world.forged = {"timestamp.json": before}

    assert await outcome(device.refresh("digits")) == "rollback-attack"


async def test_5_targets_of_a_stranger_are_refused_even_with_all_online_keys(
    world: World, device: DeviceUnderAttack
) -> None:
    targets = world.current("targets")
    targets.signed.version += 1
    targets.signed.delegations.roles["models-digits"].threshold = 1
    world.force("targets", targets, [new_key()])

    assert await outcome(device.refresh("digits")) == "bad-signature"


async def test_5_targets_that_the_snapshot_does_not_name_are_mix_and_match(
    world: World, device: DeviceUnderAttack
) -> None:
    version = world.current("targets").signed.version
    world.forged[f"{version}.targets.json"] = world.fetch(f"{version - 1}.targets.json")

    assert await outcome(device.refresh()) == "mix-and-match"


async def test_6_torn_files_make_python_tuf_forget_what_it_has_seen(
    world: World, tmp_path: Path
) -> None:
    """Why there is a step (6): the premise, shown on python-tuf alone."""
    old, new = old_and_new(world)
    fetcher = MetadataFetcher(Questions(world.fetch))
    Updater(str(tmp_path), BASE_URL, fetcher=fetcher, bootstrap=world.root).refresh()
    for name in ("timestamp.json", "snapshot.json"):
        (tmp_path / name).write_bytes(b"")
    world.forged["timestamp.json"] = old

    fetcher = MetadataFetcher(Questions(world.fetch))
    Updater(str(tmp_path), BASE_URL, fetcher=fetcher, bootstrap=world.root).refresh()

    assert (tmp_path / "timestamp.json").read_bytes() == old != new


@pytest.mark.parametrize("torn", [b"", b'{"signed": {"_type"', None])
async def test_6_a_rollback_is_refused_although_the_scratch_files_were_torn(
    world: World, tmp_path: Path, torn: bytes | None
) -> None:
    old, new = old_and_new(world)
    (tmp_path / "scratch").mkdir()
    store = SqliteStore(tmp_path / "home")
    device = DeviceUnderAttack(world, store)
    device.trust = ImageTrust(store, world.clock, "1.4.0", tmp_path / "scratch")
    await device.refresh("digits")
    before = store.trust.load()
    world.forged["timestamp.json"] = old
    hit = []

    def tear(name: str) -> None:
        for path in (tmp_path / "scratch").glob("*/*.json"):
            if path.name in {"timestamp.json", "snapshot.json"}:
                hit.append(path.name)
                path.unlink() if torn is None else path.write_bytes(torn)

    world.on_ask = tear
    # A model that was not looked at before: the updater runs in any case.
    assert await outcome(device.refresh("digits", "other")) == "rollback-attack"

    assert {"timestamp.json", "snapshot.json"} <= set(hit)
    assert store.trust.load() == before
    assert before.metadata["timestamp.json"] == new
    store.close()


def old_and_new(world: World) -> tuple[bytes, bytes]:
    """Two timestamps with two snapshots, both still valid."""
    old = world.fetch("timestamp.json")
    world.publish(manifest("digits", 3))
    return old, world.fetch("timestamp.json")


def force_snapshot(world: World, snapshot: Metadata) -> None:  # type: ignore[type-arg]
    """What whoever holds both online keys can do."""
    snapshot.signed.version += 1
    data = resigned(snapshot, [world.keys.online.snapshot])
    timestamp = world.current("timestamp")
    timestamp.signed.version += 1
    meta = timestamp.signed.snapshot_meta
    meta.version, meta.length, meta.hashes = snapshot.signed.version, None, None
    world.forged[f"{snapshot.signed.version}.snapshot.json"] = data
    world.forged["timestamp.json"] = resigned(timestamp, [world.keys.online.timestamp])
