"""A mirror is believed nothing: what it has is checked as what the controller sends, and refused so.

A refusal of the mirror's says nothing of the fleet. So it is no refusal of a version or a directive,
and it hides nothing that is known otherwise.
"""

from collections.abc import Callable
from typing import Any

import pytest

from agent.errors import (
    BadSignature,
    EndlessData,
    ExpiredMetadata,
    MalformedDocument,
    MirrorDistrusted,
    MixAndMatch,
    Refused,
    RollbackAttack,
    TransportError,
)
from agent.install.record import Slot
from agent.trust.actions import ImageTrust
from protos.limits import METADATA_BYTES
from protos.tuf import Metadata
from tests.attacks.test_directive_attacks import dismiss_the_director
from tests.attacks.world import (
    DeviceUnderAttack,
    World,
    deployed,
    manifest,
    new_key,
    outcome,
    resigned,
)


class Mirrored:
    """A device whose controller may be silent, and the mirror it can ask then.

    Attributes:
        files: what the mirror has.
        down: whether the controller is silent.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.device = DeviceUnderAttack(world)
        self.device.trust = ImageTrust(
            self.device.store, world.clock, "1.4.0", mirror=self.from_mirror
        )
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.down = True
        self.sync()

    def sync(self) -> None:
        """Brings the mirror up to date."""
        roots = [
            f"{one}.root.json" for one in range(1, self.world.current("root").signed.version + 1)
        ]
        roles = ("snapshot", "targets", "models-digits", "models-other")
        versioned = [
            f"{Metadata.from_bytes(data).signed.version}.{role}.json"
            for role in roles
            if (data := self.world.store._tables.metadata.current(role)) is not None
        ]
        for name in (*roots, *versioned, "timestamp.json"):
            data = self.world.store._tables.metadata.get(name)
            assert data is not None
            self.files[name] = data

    def from_mirror(self, name: str) -> bytes:
        self.asked.append(name)
        if name not in self.files:
            raise Refused("not-found", f"the mirror has no {name}", "")
        return self.files[name]

    def from_controller(self, name: str) -> bytes:
        if self.down:
            self.world.asked.append(name)
            raise TransportError("the controller is silent")
        return self.world.fetch(name)

    async def refresh(self, *models: str) -> Any:
        return await self.device.trust.refresh(self.from_controller, models)

    async def verify(self, model: str, version: int) -> Any:
        wanted = self.world.assignment(model, version)
        return await self.device.trust.verify(
            wanted, self.from_controller, self.world.read_manifest
        )

    async def direct(self, generation: int) -> Any:
        envelope = self.world.directive(generation, self.world.assignment("digits", 2))
        return await self.device.trust.accept_directive(envelope, self.from_controller)


@pytest.fixture
def mirrored(world: World) -> Mirrored:
    return Mirrored(world)


async def test_a_device_that_has_never_met_the_controller_verifies_by_a_mirror(
    mirrored: Mirrored,
) -> None:
    assert await outcome(mirrored.direct(1)) == "accepted"

    found = await mirrored.verify("digits", 2)

    assert (found.manifest.reference, found.approvals) == ("digits/2", 2)


async def test_a_silent_controller_is_asked_once_a_refresh_and_not_for_every_file(
    world: World, mirrored: Mirrored
) -> None:
    refreshed = await mirrored.refresh("digits")

    assert refreshed.mirrored
    assert world.asked == ["2.root.json"]
    assert len(mirrored.asked) == 5


async def test_a_mirror_is_not_asked_where_the_controller_answers(mirrored: Mirrored) -> None:
    mirrored.down = False

    assert not (await mirrored.refresh("digits")).mirrored
    assert await outcome(mirrored.verify("digits", 2)) == "accepted"

    assert mirrored.asked == []


def foreign_timestamp(mirrored: Mirrored) -> None:
    metadata = Metadata.from_bytes(mirrored.files["timestamp.json"])
    metadata.signed.version += 1
    mirrored.files["timestamp.json"] = resigned(metadata, [new_key()])


def frozen(mirrored: Mirrored) -> None:
    mirrored.world.clock.advance(days=1, hours=1)


def swapped_snapshot(mirrored: Mirrored) -> None:
    mirrored.world.publish(manifest("digits", 3))
    before = dict(mirrored.files)
    mirrored.sync()
    new, old = (set(mirrored.files) - set(before)), "snapshot.json"
    name = next(one for one in new if one.endswith(old))
    mirrored.files[name] = next(data for one, data in before.items() if one.endswith(old))


def endless(mirrored: Mirrored) -> None:
    mirrored.files["timestamp.json"] = b" " * (METADATA_BYTES["timestamp"] + 1)


def rubbish(mirrored: Mirrored) -> None:
    mirrored.files["timestamp.json"] = b"<html>welcome</html>"


def empty(mirrored: Mirrored) -> None:
    mirrored.files.clear()


WRONG: list[tuple[Callable[[Mirrored], None], type[Exception]]] = [
    (foreign_timestamp, BadSignature),
    (frozen, ExpiredMetadata),
    (swapped_snapshot, MixAndMatch),
    (endless, EndlessData),
    (rubbish, MalformedDocument),
    (empty, Refused),
]


@pytest.mark.parametrize(("spoil", "why"), WRONG, ids=lambda one: str(one.__name__))
async def test_a_wrong_mirror_is_refused_and_says_why(
    mirrored: Mirrored, spoil: Callable[[Mirrored], None], why: type[Exception]
) -> None:
    mirrored.down = False
    await mirrored.refresh("digits")
    mirrored.down = True
    spoil(mirrored)

    with pytest.raises(MirrorDistrusted) as refused:
        await mirrored.refresh("digits")

    assert isinstance(refused.value.__cause__, why)


async def test_older_metadata_is_refused_and_what_is_known_stays(mirrored: Mirrored) -> None:
    mirrored.world.publish(manifest("digits", 3))
    mirrored.down = False
    await mirrored.refresh("digits")
    known = mirrored.device.store.trust.load()
    mirrored.down = True

    with pytest.raises(MirrorDistrusted) as refused:
        await mirrored.refresh("digits")

    assert isinstance(refused.value.__cause__, RollbackAttack)
    assert mirrored.device.store.trust.load() == known
    assert await outcome(mirrored.verify("digits", 3)) == "accepted"  # by what is known


async def test_an_older_role_of_a_model_is_refused_and_fails_no_version(mirrored: Mirrored) -> None:
    older = mirrored.files["2.models-digits.json"]
    mirrored.world.publish(manifest("digits", 3))
    mirrored.sync()
    mirrored.files["3.models-digits.json"] = older

    refreshed = await mirrored.refresh("digits")

    problem = refreshed.problems["digits"]
    assert isinstance(problem, MirrorDistrusted)
    assert isinstance(problem.__cause__, MixAndMatch)
    assert await outcome(mirrored.verify("digits", 3)) == "mirror-distrusted"
    mirrored.down = False
    assert await outcome(mirrored.verify("digits", 3)) == "accepted"


async def test_a_mirror_that_hides_a_recall_hides_it_only_until_the_controller_answers(
    mirrored: Mirrored,
) -> None:
    running = deployed(manifest("digits", 1))
    mirrored.device.store.installs.save_slot(Slot("digits", "champion", running))
    await mirrored.refresh("digits")
    mirrored.world.recall("digits", 1)

    assert (await mirrored.refresh("digits")).mirrored
    mirrored.down = False
    await mirrored.refresh("digits")
    assert mirrored.device.trust.objection(running) is not None

    mirrored.down = True
    await outcome(mirrored.refresh("digits"))
    assert mirrored.device.trust.objection(running) is not None
    assert await outcome(mirrored.verify("digits", 1)) == "recalled"


async def test_a_recall_is_learnt_from_a_mirror_too(mirrored: Mirrored) -> None:
    await mirrored.refresh("digits")
    mirrored.world.recall("digits", 1)
    mirrored.sync()

    await mirrored.refresh("digits")

    assert mirrored.device.trust.objection(deployed(manifest("digits", 1))) is not None


async def test_a_version_that_the_mirror_does_not_know_yet_is_put_off_and_not_refused(
    mirrored: Mirrored,
) -> None:
    mirrored.world.publish(manifest("digits", 3))

    assert await outcome(mirrored.verify("digits", 3)) == "not-yet-trusted"

    mirrored.sync()
    assert await outcome(mirrored.verify("digits", 3)) == "accepted"


async def test_so_is_one_that_what_is_stored_does_not_know(
    world: World, device: DeviceUnderAttack
) -> None:
    await device.refresh("digits")
    world.publish(manifest("digits", 3))
    world.forged["2.root.json"] = TransportError("cut off")

    assert await outcome(device.verify(world.assignment("digits", 3))) == "not-yet-trusted"

    world.forged.clear()
    assert await outcome(device.verify(world.assignment("digits", 3))) == "accepted"


async def test_a_directive_of_a_new_director_waits_for_a_mirror_that_is_behind(
    world: World, mirrored: Mirrored
) -> None:
    await mirrored.refresh()
    dismiss_the_director(world)

    assert await outcome(mirrored.direct(1)) == "not-yet-trusted"

    mirrored.sync()
    assert await outcome(mirrored.direct(1)) == "accepted"
