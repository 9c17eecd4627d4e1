"""Two controllers on one database: one acts, the other takes over, and a sleeper does no harm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.errors import Conflict
from controller.rollout.loop import RolloutLoop
from controller.rollout.turn.actions import LEASE_SECONDS
from controller.store.sql import SqlStore
from controller.store.store import Store
from protos.documents import Directive
from simulations.memory_store import MemoryStore
from tests.controller.rollout.world import Post, World, directives


@pytest.fixture(params=["memory", "sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """The same data twice: as two processes see one file."""
    if request.param == "memory":
        store = MemoryStore()
        yield store, store
        return
    address = f"sqlite:///{tmp_path}/muster.db"
    first, second = SqlStore.open(address), SqlStore.open(address)
    yield first, second
    first.close()
    second.close()


class Pair:
    """Two controllers, each with links of its own."""

    def __init__(self, first: Store, second: Store) -> None:
        self.world = World(first)
        self.posts = Post(), Post()
        self.one, self.two = (
            RolloutLoop(store, post, self.world.director, self.world.clock, holder=name)
            for store, post, name in zip((first, second), self.posts, ("one", "two"), strict=True)
        )

    async def begins(self) -> None:
        """A device is linked to the first, which has told it of a rollout."""
        for line in ("device pi-01", "publish digits/1", "publish digits/2", "start digits/1 all"):
            await self.world.run(line)
        self.posts[0].there.add("pi-01")
        assert not (await self.one.turn()).empty

    def generations(self) -> list[int]:
        return [one.generation for one in directives(self.world, "pi-01")]

    def linked(self, name: str = "pi-01") -> bool:
        with self.world.store.read() as tx:
            known = tx.devices.get(name)
        assert known is not None
        return known.connected


@pytest.fixture
async def pair(stores: tuple[Store, Store]) -> Pair:
    made = Pair(*stores)
    await made.begins()
    return made


async def test_only_one_of_two_controllers_acts(pair: Pair) -> None:
    await pair.world.run("start digits/2 all")

    assert (await pair.two.turn()).empty
    assert pair.generations() == [1]
    assert not (await pair.one.turn()).empty
    assert pair.generations() == [1, 2]
    assert pair.linked()


async def test_the_other_takes_over_when_the_lease_has_run_out(pair: Pair) -> None:
    await pair.world.run("start digits/2 all")
    pair.posts[1].there.add("pi-01")
    pair.world.clock.at += LEASE_SECONDS - 5
    assert (await pair.two.turn()).empty
    waited = len(pair.posts[1].sent)
    pair.world.clock.at += 6

    assert not (await pair.two.turn()).empty
    assert pair.generations() == [1, 2]
    assert [name for name, _ in pair.posts[1].sent[waited:]] == ["pi-01"]


async def test_who_takes_over_counts_links_of_the_dead_one_as_gone_and_spares_its_own(
    pair: Pair,
) -> None:
    await pair.world.run("device pi-02")
    pair.posts[1].there.add("pi-02")
    await pair.two.turn()
    assert pair.linked()
    pair.world.clock.at += LEASE_SECONDS + 1

    await pair.two.turn()

    assert (pair.linked("pi-01"), pair.linked("pi-02")) == (False, True)


async def test_the_one_that_waits_tells_its_own_links_what_the_other_has_signed(pair: Pair) -> None:
    pair.posts[1].there.add("pi-01")
    await pair.two.turn()
    assert [name for name, _ in pair.posts[1].sent] == ["pi-01"]
    await pair.two.turn()
    assert len(pair.posts[1].sent) == 1  # nothing twice

    await pair.world.run("start digits/2 all")
    await pair.one.turn()
    await pair.two.turn()

    assert [name for name, _ in pair.posts[1].sent] == ["pi-01", "pi-01"]
    assert pair.generations() == [1, 2]


async def test_who_takes_over_late_tells_what_the_other_had_signed_meanwhile(pair: Pair) -> None:
    pair.posts[1].there.add("pi-01")
    await pair.two.turn()
    waited = len(pair.posts[1].sent)
    await pair.world.run("start digits/2 all")
    await pair.one.turn()
    pair.world.clock.at += LEASE_SECONDS + 1

    await pair.two.turn()

    assert pair.generations() == [1, 2]
    assert [name for name, _ in pair.posts[1].sent[waited:]] == ["pi-01"]


async def test_a_sleeper_that_wakes_with_an_old_lease_writes_nothing(pair: Pair) -> None:
    """The first is stopped between its plan and its signatures, and wakes long after."""
    await pair.world.run("start digits/2 all")
    pair.world.clock.at += LEASE_SECONDS + 1
    pair.posts[1].there.add("pi-01")
    await pair.two.turn()
    told = pair.generations()

    late = Directive(device="pi-01", generation=told[-1] + 1, issued_at=0)
    with pytest.raises(Conflict, match="another controller"):
        pair.one._sign([late])
    assert (await pair.one.turn()).empty
    assert pair.generations() == told


async def test_who_comes_back_to_the_lease_reads_what_others_wrote_meanwhile(pair: Pair) -> None:
    """Else a device would keep what the other told it, though something else is wanted by now."""
    await pair.world.run("start digits/2 all")
    pair.world.clock.at += LEASE_SECONDS + 1
    await pair.two.turn()
    assert [one.assignments[0].version for one in directives(pair.world, "pi-01")] == [1, 2]
    await pair.world.run("abort digits-2-1 revert")
    pair.world.clock.at += LEASE_SECONDS + 1

    await pair.one.turn()

    assert [one.assignments[0].version for one in directives(pair.world, "pi-01")] == [1, 2, 1]
