"""Steps (3) to (6) of ``agent.trust.verify``: who controls the network or the online keys can't go back,
mix, freeze or flood."""

from pathlib import Path

import pytest
from tuf.ngclient.updater import Updater

from agent.errors import TransportError
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
