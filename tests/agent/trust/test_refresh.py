import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import NotEnrolled, Refused, StoreError
from agent.install.record import Slot
from agent.store.device_store import TrustedState
from agent.store.sqlite_store import SqliteStore
from agent.trust.actions import ImageTrust
from simulations.memory_device_store import MemoryDeviceStore, MemoryTrustStore
from tests.attacks.world import DeviceUnderAttack, World, deployed, manifest, outcome

ROOT = Path(__file__).resolve().parents[3]


async def test_a_first_refresh_asks_for_each_file_once(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")

    assert world.asked == [
        "2.root.json",
        "timestamp.json",
        "5.snapshot.json",
        "3.targets.json",
        "2.models-digits.json",
    ]


async def test_a_refresh_without_news_asks_for_the_root_and_the_timestamp_only(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    stored = device.store.trust.load()
    world.asked.clear()

    await device.refresh("digits")

    assert world.asked == ["2.root.json", "timestamp.json"]
    assert device.store.trust.load() is stored


def test_a_restart_without_news_does_without_the_tuf_client() -> None:
    script = """
import asyncio, sys
from tests.attacks.world import DeviceUnderAttack, World, manifest

world = World()
world.publish(manifest("digits", 1))
first = DeviceUnderAttack(world)
assert "tuf.ngclient" not in sys.modules
asyncio.run(first.refresh("digits"))
assert "tuf.ngclient" in sys.modules
for name in [name for name in sys.modules if name.startswith("tuf.ngclient")]:
    del sys.modules[name]
asyncio.run(DeviceUnderAttack(world, first.store).verify(world.assignment("digits", 1)))
assert "tuf.ngclient" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)

    assert (ran.returncode, ran.stderr) == (0, b"")


async def test_a_new_timestamp_alone_fetches_nothing_else(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    world.asked.clear()
    world.new_timestamp()

    await device.refresh("digits")

    assert world.asked == ["2.root.json", "timestamp.json"]


async def test_a_refresh_looks_after_every_model_that_runs_here(
    world: World, device: DeviceUnderAttack
) -> None:
    device.store.installs.save_slot(Slot("digits", "champion", deployed(manifest("digits", 1))))

    await device.refresh()

    assert device.versions()["models-digits.json"] == 2


async def test_trust_outlives_a_restart(world: World, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "home")
    device = DeviceUnderAttack(world, store)
    world.recall("digits", 1, floor=2)
    await device.refresh("digits")
    before = store.trust.load()
    store.close()

    again = SqliteStore(tmp_path / "home")
    reborn = ImageTrust(again, world.clock, "1.4.0")

    assert again.trust.load() == before
    assert reborn.objection(deployed(manifest("digits", 1))) is not None
    verified = await reborn.verify(world.assignment("digits", 2), world.fetch, world.read_manifest)
    assert verified.approvals == 2
    again.close()


async def test_a_device_without_identity_trusts_nobody(world: World) -> None:
    trust = ImageTrust(MemoryDeviceStore(), world.clock, "1.4.0")

    with pytest.raises(NotEnrolled):
        await trust.refresh(world.fetch)


async def test_the_controllers_refusal_is_passed_on(
    world: World, device: DeviceUnderAttack
) -> None:
    world.forged["2.root.json"] = Refused("device-revoked", "revoked", "enrol anew")

    assert await outcome(device.refresh()) == "device-revoked"


@pytest.mark.parametrize("name", ["timestamp.json", "5.snapshot.json", "3.targets.json"])
async def test_metadata_that_the_controller_lacks_is_named(
    world: World, device: DeviceUnderAttack, name: str
) -> None:
    world.forged[name] = Refused("not-found", f"no metadata {name}", "")

    with pytest.raises(Refused, match=name) as refused:
        await device.refresh()

    assert refused.value.code == "not-found"


async def test_a_store_that_fails_leaves_the_trust_as_it_was(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    before = device.store.trust.load()
    world.publish(manifest("digits", 3))
    world.on_ask = lambda name: device.store.close() if ".snapshot." in name else None

    with pytest.raises(StoreError):
        await device.refresh("digits")

    assert isinstance(device.store, MemoryDeviceStore)
    assert device.store.contents.trust == before


async def test_many_may_ask_at_once(world: World, device: DeviceUnderAttack) -> None:
    attempts = [device.verify(world.assignment("digits", 1 + number % 2)) for number in range(8)]

    verified = await asyncio.gather(*attempts)

    assert [one.manifest.version for one in verified] == [1, 2] * 4


async def test_a_cancelled_refresh_breaks_nothing(world: World, device: DeviceUnderAttack) -> None:
    reached, go = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        reached.set()
        assert go.wait(10)

    world.on_ask = wait
    refresh = asyncio.create_task(device.refresh("digits"))
    await asyncio.to_thread(reached.wait, 10)
    refresh.cancel()
    await asyncio.gather(refresh, return_exceptions=True)
    go.set()

    assert await outcome(device.verify(world.assignment("digits", 2))) == "accepted"


async def test_a_directive_need_not_wait_for_a_slow_refresh(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    reached, go = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        reached.set()
        assert go.wait(10)

    world.on_ask = wait
    refresh = asyncio.create_task(device.refresh("digits"))
    await asyncio.to_thread(reached.wait, 10)

    directive = await device.trust.accept_directive(world.directive(3))

    assert directive.generation == 3
    go.set()
    await refresh


@pytest.fixture(scope="module")
def busy() -> tuple[World, TrustedState]:
    """A world that went on after the device's last refresh."""
    world = World()
    world.publish(manifest("digits", 1))
    device = DeviceUnderAttack(world)
    asyncio.run(device.refresh("digits"))
    world.rotate_root()
    world.publish(manifest("digits", 2))
    return world, device.store.trust.load()


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_served_trust_never_goes_back_and_only_our_errors_come_out(
    busy: tuple[World, TrustedState], data: st.DataObject
) -> None:
    world, state = busy
    world.forged, world.asked = {}, []
    probe = DeviceUnderAttack(world)
    asyncio.run(probe.refresh("digits"))
    name = data.draw(st.sampled_from([one for one in world.asked if one != "3.root.json"]))
    world.forged[name] = data.draw(mutations(world.fetch(name)))
    device = DeviceUnderAttack(world)
    device.store.trust.save(state)
    before = device.versions()

    code = asyncio.run(outcome(device.refresh("digits")))

    assert code in CODES
    after = device.versions()
    assert all(after[name] >= version for name, version in before.items())
    for file, version in after.items():
        served = file if file == "timestamp.json" else f"{version}.{file}"
        genuine = {world.store._tables.metadata.get(served), state.metadata.get(file), world.root}
        assert same_signed(device.store.trust.load().metadata[file], genuine)


CODES = {"bad-signature", "malformed", "mix-and-match", "rollback-attack", "endless-data"} | {
    "too-few-approvals",
    "expired-metadata",
    "accepted",
}


def mutations(genuine: bytes) -> st.SearchStrategy[bytes]:
    place = st.integers(0, len(genuine) - 1)
    return st.one_of(
        st.binary(max_size=80),
        place.map(lambda end: genuine[:end]),
        st.builds(
            lambda at, byte: genuine[:at] + bytes([byte]) + genuine[at + 1 :],
            place,
            st.integers(0, 255),
        ),
        st.builds(
            lambda at, text: genuine[:at] + text + genuine[at:], place, st.binary(max_size=9)
        ),
    )


def same_signed(found: bytes, genuine: set[bytes | None]) -> bool:
    """Whether the signed part is that of one of the genuine files."""
    from protos.tuf import Metadata  # noqa: PLC0415

    signed = Metadata.from_bytes(found).signed_bytes
    return any(signed == Metadata.from_bytes(one).signed_bytes for one in genuine if one)


class CountingTrust(MemoryTrustStore):
    """Counts how often it is read."""

    reads = 0

    def load(self) -> TrustedState:
        self.reads += 1
        return super().load()


async def test_what_may_run_is_answered_without_the_disk_and_a_recall_is_seen_at_once(
    world: World,
) -> None:
    store = MemoryDeviceStore()
    device = DeviceUnderAttack(world, store)
    await device.refresh("digits")
    trust = ImageTrust(store, world.clock, "1.4.0")
    counting = CountingTrust(store)
    store.trust = counting

    for _ in range(3):
        assert trust.objection(deployed(manifest("digits", 1))) is None
        trust.limits()
    assert counting.reads == 1

    world.recall("digits", 1)
    await trust.refresh(world.fetch, ("digits",))
    read = counting.reads
    refusal = trust.objection(deployed(manifest("digits", 1)))

    assert refusal is not None
    assert refusal.code == "recalled"
    assert counting.reads == read
