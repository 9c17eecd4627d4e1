"""What can be seen of a rollout's stages, whatever has become of it."""

from controller.rollout import actions
from controller.rollout.policy import Breach, Policy, Stage
from controller.rollout.rollout import StageState, State
from tests.controller.rollout.world import World

CAREFUL = Policy(
    stages=(
        Stage(name="canary", count=1, soak_seconds=0, on_breach=Breach.ROLLBACK_ALL),
        Stage(name="all", percent=100, soak_seconds=0),
    )
)
STOPPED = [StageState.BREACHED, StageState.PENDING]


def stages(world: World, rollout: str) -> tuple[State, list[StageState]]:
    """As shown; lists say the same."""
    with world.store.begin() as tx:
        found = actions.show(tx, rollout, world.clock.at)
        listed = actions.list_rollouts(tx, world.clock.at)
    assert found in listed
    return found.rollout.state, [one.state for one in found.stages]


async def test_the_stages_of_a_rollout_are_seen_while_it_goes_back_and_after() -> None:
    world = World()
    names = ("pi-01", "pi-02")
    for line in (
        f"device {' '.join(names)} site=berlin",
        "publish digits/1",
        "publish digits/2",
        "start digits/1 all",
        "plan",
        *(f"report {name} run digits/1 committed" for name in names),
        "plan",
    ):
        await world.run(line)
    world.policy = CAREFUL
    await world.run("start digits/2 all")
    await world.run("plan")
    with world.store.begin() as tx:
        (canary,) = {row.device for row in tx.rollouts.wanted() if row.version == 2}

    await world.run(f"report {canary} run digits/1 probation try digits/2 failed:self-test-slow")
    await world.run("plan")
    assert stages(world, "digits-2-1") == (State.ROLLING_BACK, STOPPED)

    await world.run(f"report {canary} run digits/1 committed")
    assert stages(world, "digits-2-1") == (State.ROLLED_BACK, STOPPED)  # as the next plan says
    await world.run("plan")
    assert stages(world, "digits-2-1") == (State.ROLLED_BACK, STOPPED)
