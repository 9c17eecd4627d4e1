import pytest

from controller.rollout import loop as loops
from controller.rollout.turn import actions as turns
from tests.controller.rollout.world import World, directives


async def test_a_fleet_is_told_in_parts_and_read_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "AT_ONCE", 2)
    monkeypatch.setattr(turns, "SINGLY", 1)
    names = [f"pi-{number:02}" for number in range(5)]
    world = World()
    await world.run(f"device {' '.join(names)} site=berlin")
    await world.run("publish digits/1")
    await world.run("start digits/1 all")
    await world.loop.turn()
    assert sorted(name for name, _ in world.post.sent) == names

    await world.new_loop().turn()

    assert [len(directives(world, name)) for name in names] == [1] * 5
