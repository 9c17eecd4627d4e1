"""Plan and apply, over the real planner and the store in memory."""

import pytest

from controller.errors import NotFound
from controller.fleet_config.actions import (
    applied_fleet,
    list_fleets,
)
from controller.fleet_config.plan import Action
from controller.fleet_config.reading import BadFleetFile
from controller.fleet_config.sentences import plan_lines
from controller.rollout.rollout import State
from controller.rollout.steering.actions import Abort, abort
from protos.documents import Directive, Watching
from protos.envelope import peek
from tests.controller.fleet_config.applying import (
    FLEET,
    apply,
    names,
    planned,
    reported,
    state,
    world,
)
from tests.controller.rollout.world import START

OLD = "[control]\npercent = 0\n[[stages]]\nname = 'all'\npercent = 100\nsoak = 0\n"
OLD += "[proof]\nfailing_below = 1.0\n"


async def test_applying_twice_does_nothing_the_second_time() -> None:
    made = world(*names(20))

    first = apply(made, FLEET)
    await made.loop.turn()
    made.clock.at += 5
    second = apply(made, FLEET)

    assert first.started == ("load-1-1",)
    assert (second.started, second.ended, second.plan.changes) == ((), (), False)
    with made.store.read() as tx:
        (stored,) = list_fleets(tx)
        rollout = tx.rollouts.get("load-1-1")
        actions = [one.entry.action for one in tx.audit.records()]
    assert (stored.name, stored.applied_by, stored.applied_at) == ("meters", "ada", START)
    assert rollout is not None
    assert (rollout.fleet, rollout.policy) == ("meters", first.plan.goals[0].goal.policy)
    assert actions == ["rollout.start", "fleet.apply"]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (("load/1", "load/2"), ("version",)),
        (("kind=meter", "kind=meter and site=x"), ("selector",)),
        (('version = "load/1"', 'version = "load/1"\n[pace]\nper_site = 3'), ("policy",)),
    ],
)
async def test_what_changes_starts_a_newer_rollout_that_supersedes(
    change: tuple[str, str], differs: tuple[str, ...]
) -> None:
    made = world(*names(20), site="x")
    apply(made, FLEET)
    await made.loop.turn()
    made.clock.at += 5

    done = apply(made, FLEET.replace(*change))
    await made.loop.turn()

    (goal,) = done.plan.goals
    assert (goal.action, goal.replaces, goal.differs) == (Action.SUPERSEDE, "load-1-1", differs)
    assert done.started == (goal.rollout,)
    assert state(made, "load-1-1") is State.SUPERSEDED
    assert state(made, goal.rollout) is State.RUNNING


async def test_what_is_no_longer_asked_for_stays_until_it_is_pruned() -> None:
    made = world(*names(5))
    two = FLEET + OLD.replace("[control]", "[[models]]\nname='theft'\nversion='theft/1'\n[control]")
    assert apply(made, two).started == ("load-1-1", "theft-1-1")
    await made.loop.turn()

    left = apply(made, FLEET + OLD)
    assert (left.started, left.ended) == ((), ())
    assert [one.id for one in left.plan.leftover] == ["theft-1-1"]
    assert state(made, "theft-1-1") is State.RUNNING

    assert apply(made, FLEET + OLD, prune=True).ended == ("theft-1-1",)
    assert state(made, "theft-1-1") is State.ABORTED
    assert apply(made, FLEET + OLD, prune=True).ended == ()


async def test_devices_that_the_fleet_no_longer_means_are_left_with_what_they_have() -> None:
    made = world(*names(5), site="a")
    apply(made, FLEET + OLD)
    await made.loop.turn()
    for name in names(5):
        reported(made, name, 1)
    await made.loop.turn()
    assert state(made, "load-1-1") is State.SUCCEEDED

    narrower = (FLEET + OLD).replace("kind=meter", "kind=meter and site=b")
    done = apply(made, narrower, prune=True)

    assert done.started == ("load-1-2",)
    assert done.ended == ("load-1-1",)
    # A newer version for the same devices leaves the older standing order where it is.
    assert planned(made, narrower.replace("load/1", "load/2")).leftover == ()


@pytest.mark.parametrize("how", [Abort.KEEP, Abort.REVERT])
async def test_what_was_aborted_starts_again_only_if_somebody_says_so(how: Abort) -> None:
    made = world(*names(5))
    apply(made, FLEET)
    await made.loop.turn()
    with made.store.begin() as tx:
        abort(tx, "load-1-1", "ada", made.clock.at, how)

    assert planned(made, FLEET).goals[0].action is Action.STOPPED
    assert apply(made, FLEET).started == ()
    assert any("--again starts it anew" in line for line in plan_lines(planned(made, FLEET)))
    assert apply(made, FLEET, again=True).started == ("load-1-2",)


async def test_devices_are_told_how_to_watch_a_model() -> None:
    made = world("m1")
    monitor = "[[monitors]]\nmodel = 'load'\nrows = 500\nwindow = '10m'\n"
    apply(made, FLEET + OLD)
    await made.loop.turn()
    apply(made, FLEET + monitor + OLD)
    await made.loop.turn()

    with made.store.read() as tx:
        told = [peek(one.envelope, Directive) for one in tx.rollouts.directives("m1")]
    newest, before = (one.assignments[0] for one in told)
    assert (before.rollout, before.watching) == ("load-1-1", Watching())
    assert (newest.rollout, newest.watching) == ("load-1-2", Watching(rows=500, seconds=600))


async def test_an_alias_means_what_it_means_when_the_file_is_applied() -> None:
    made = world(*names(5))
    text = FLEET.replace("load/1", "load@champion")
    with pytest.raises(
        BadFleetFile, match=r"meters\.toml:7: .*there is no alias load@champion; set"
    ):
        planned(made, text)
    with made.store.begin() as tx:
        tx.registry.put_alias("load", "champion", 1)
    assert apply(made, text).started == ("load-1-1",)
    with made.store.begin() as tx:
        tx.registry.put_alias("load", "champion", 2)

    assert apply(made, text).started == ("load-2-1",)


def test_versions_that_can_not_be_rolled_out_are_all_told_by_line() -> None:
    made = world("m1")
    made._recall("load/2")
    text = FLEET.replace("load/1", "load/2") + "[[models]]\nname = 'x'\nversion = 'x/3'\n"

    with pytest.raises(BadFleetFile) as caught:
        apply(made, text)

    assert [one.line for one in caught.value.problems] == [7, 10]
    assert "load/2 is recalled; only published versions" in caught.value.detail
    assert "there is no version x/3" in caught.value.detail
    with made.store.read() as tx:
        assert list_fleets(tx) == []
        assert tx.rollouts.all() == []


def test_nothing_was_applied_under_a_name_that_nobody_used() -> None:
    made = world()
    with made.store.read() as tx, pytest.raises(NotFound, match="no fleet 'meters'"):
        applied_fleet(tx, "meters")
