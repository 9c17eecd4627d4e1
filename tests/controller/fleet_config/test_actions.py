"""Plan and apply, over the real planner and the store in memory."""

import dataclasses
from collections.abc import Sequence

import msgspec
import pytest

from controller.errors import NotFound
from controller.fleet.device import SlotState
from controller.fleet_config.actions import (
    Applied,
    FleetText,
    applied_fleet,
    apply_fleet,
    list_fleets,
    plan_fleet,
)
from controller.fleet_config.estimate import openings
from controller.fleet_config.plan import Action, FleetPlan
from controller.fleet_config.reading import BadFleetFile
from controller.fleet_config.sentences import plan_lines
from controller.registry.version import State as VersionState
from controller.registry.version import Version
from controller.rollout.rollout import CONTROL, State
from controller.rollout.steering.actions import Abort, abort
from protos.documents import Directive, Watching
from protos.envelope import peek
from protos.manifest import File, Lineage, Role
from tests.controller.rollout.world import START, World, device, manifest

FLEET = """
[fleet]
name = "meters"
selector = "kind=meter"
[[models]]
name = "load"
version = "load/1"
"""
OLD = "[control]\npercent = 0\n[[stages]]\nname = 'all'\npercent = 100\nsoak = 0\n"
OLD += "[proof]\nfailing_below = 1.0\n"


def world(*devices: str, zone: str = "", **labels: str) -> World:
    made = World()
    publish(made, "load/1", "load/2", "theft/1")
    enrol(made, *devices, memory=2**33, zone=zone, **labels)
    return made


def publish(made: World, *versions: str) -> None:
    for one in versions:
        made._publish(one)


def enrol(made: World, *names: str, memory: int = 2**33, zone: str = "", **labels: str) -> None:
    facts = {"memory_bytes": str(memory), **({"timezone": zone} if zone else {})}
    with made.store.begin() as tx:
        for name in names:
            known = device(name, {"kind": "meter", **labels}, facts)
            tx.devices.put(dataclasses.replace(known, last_seen=made.clock.at))
    made.post.there.update(names)


def apply(made: World, text: str, **how: bool) -> Applied:
    with made.store.begin() as tx:
        return apply_fleet(tx, FleetText(text, "meters.toml"), "ada", made.clock.at, **how)


def planned(made: World, text: str, **how: bool) -> FleetPlan:
    with made.store.read() as tx:
        return plan_fleet(tx, FleetText(text, "meters.toml"), made.clock.at, **how)


def reported(
    made: World, name: str, version: int, doing: str = "committed", soaked: int = 0
) -> None:
    with made.store.begin() as tx:
        known = tx.registry.version("load", version)
        assert known is not None
        slot = SlotState(
            device=name,
            model="load",
            slot="champion",
            version=version,
            running=doing == "committed",
            state=doing,
            manifest_sha256=known.manifest_sha256,
            model_sha256="0" * 64,
            approvals=1,
            generation=1,
            counter=1,
            reported_at=made.clock.at,
            code="outside-window" if doing == "waiting" else "",
            soaked=soaked,
        )
        tx.devices.touch(name, made.clock.at, connected=True)
        tx.devices.replace_slots(name, [slot])


def names(count: int) -> Sequence[str]:
    return [f"m{number:03}" for number in range(count)]


def state(made: World, rollout: str) -> State:
    with made.store.read() as tx:
        found = tx.rollouts.get(rollout)
    assert found is not None
    return found.state


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


async def test_a_plan_names_whom_it_means_who_can_not_and_who_is_taken() -> None:
    made = world(*names(4), site="berlin")
    enrol(made, "small", memory=1, site="munich")
    enrol(made, "old", site="munich")
    enrol(made, "lamp", kind="lamp")
    made._publish("load/3", "memory_bytes=1073741824")
    with made.store.begin() as tx:
        tx.devices.touch("m000", made.clock.at, connected=False)
    made._start("load/3", "id=m001")
    await made.loop.turn()
    reported(made, "old", 3)
    text = FLEET.replace("load/1", "load/3").replace(
        "[[models]]", "[[models]]\nselector = 'not id=m003'"
    )

    plan = planned(made, text)
    (goal,) = plan.goals

    assert goal.reach.devices == ("m000", "m001", "m002", "old")
    assert goal.reach.already == ("old",)
    assert goal.reach.offline == ("m000",)
    assert goal.reach.incompatible == {"needs 1024 MiB of memory, has 0 MiB": ("small",)}
    assert goal.reach.taken == {"load-3-1": 1}
    assert plan.unmatched == ("m003",)
    assert goal.sites == {"berlin": (3, 3 * goal.bundle_bytes), "munich": (0, 0)}
    with made.store.read() as tx:
        version = tx.registry.version("load", 3)
    assert version is not None
    assert goal.bundle_bytes == len(version.manifest) + 4  # four files of one byte


async def test_devices_that_run_the_parent_fetch_only_the_step_of_a_candidate() -> None:
    made = world("m000", "m001", "m002", site="berlin")
    reported(made, "m000", 1)
    reported(made, "m001", 1)
    one = manifest("load", 1)
    files = {
        **one.files,
        Role.MODEL: File(sha256="1" * 64, length=1_000_000),
        Role.MODEL_STEP: File(sha256="2" * 64, length=120_000),
        Role.TRAIN_STEP: File(sha256="3" * 64, length=5_000),
    }
    lineage = Lineage(parent=1, parent_model="4" * 64, parent_train_step="5" * 64)
    two = msgspec.structs.replace(
        manifest("load", 2), files=files, lineage=lineage, release_counter=2
    )
    stored = Version("load", 2, VersionState.PUBLISHED, two.encode(), two.digest, 0.0, "ada")
    with made.store.begin() as tx:
        tx.registry.put_version(stored)

    plan = planned(made, FLEET.replace("load/1", "load/2"))

    (goal,) = plan.goals
    rest = len(two.encode()) + 3  # files of one byte
    assert goal.bundle_bytes == rest + 1_005_000
    assert goal.sites == {"berlin": (3, goal.bundle_bytes + 2 * (rest + 120_000))}
    assert any("at most" in line for line in plan_lines(plan))


STAGED_FILE = (
    FLEET
    + """
[control]
percent = 10
stratify_by = ["site"]
[[stages]]
name = "ring"
selector = "ring=early"
soak = "5m"
[[stages]]
name = "canary"
percent = 10
soak = "10m"
[[stages]]
name = "half"
percent = 50
soak = "10m"
[[stages]]
name = "all"
percent = 100
soak = "20m"
"""
)


class Course:
    """Devices that do as plans assume: fetch, test, wait for their window, switch, and report."""

    def __init__(self, made: World, plan: FleetPlan) -> None:
        self._made = made
        self._plan = plan
        self._opening = openings(plan.goals[0].goal.policy.conditions)
        self._due: list[tuple[float, str, str, int]] = []
        self.stages: dict[str, int] = {}

    async def turn(self) -> None:
        """A turn of the planner, and what its devices say until something happens."""
        made, assumed = self._made, self._plan.assumed
        soaks = [int(one.soak_seconds) for one in self._plan.goals[0].goal.policy.stages]
        await made.loop.turn()
        made.post.sent.clear()
        with made.store.read() as tx:
            zones = {one.id: one.facts.get("timezone", "UTC") for one in tx.devices.all()}
            members = [one for one in tx.stages.members() if one.stage != CONTROL]
        fetch = self._plan.goals[0].bundle_bytes / assumed.bytes_per_second
        for one in members:
            if one.device not in self.stages:
                self.stages[one.device] = one.stage
                ready = one.released_at + fetch + assumed.test_seconds
                switched = self._opening(zones[one.device], ready)
                if switched > ready:
                    self._due.append((ready, one.device, "waiting", 0))
                self._due.append((switched, one.device, "switching", 0))
                proven = switched + assumed.probation_seconds
                self._due.append((proven, one.device, "committed", 0))
                soak = soaks[min(one.stage, len(soaks) - 1)]
                self._due.append((proven + soak, one.device, "committed", soak))
        made.clock.at = max(
            made.clock.at + 5, min([made.clock.at + 60, *(at for at, *_ in self._due)])
        )
        self._tell()

    def _tell(self) -> None:
        now = self._made.clock.at
        with self._made.store.begin() as tx:
            for one in tx.devices.all():
                tx.devices.touch(one.id, now, connected=True)
        for _, name, doing, soaked in sorted(one for one in self._due if one[0] <= now):
            reported(self._made, name, 1, doing, soaked)
        self._due = [one for one in self._due if one[0] > now]


@pytest.mark.parametrize(
    "more",
    [
        "[pace]\nper_minute = 7\n",
        "[pace]\nper_minute = 4\ngrowth = 2.0\ngrowth_after = 10\nper_site = 3\n",
        "[proof]\nminimum_devices = 20\nfailing_below = 0.2\n",
        "[proof]\nfailing_below = 1.0\n[[gates]]\nmetric = 'drift'\nmargin = 0.1\n",
        "[proof]\nfailing_below = 1.0\n[[conditions.windows]]\nstart = '22:30'\nduration = '2h'\n",
    ],
)
async def test_it_takes_as_long_and_touches_whom_the_plan_has_said(more: str) -> None:
    """The planner carries it out, on devices that do as the plan assumes."""
    made = world(*names(40), site="a", zone="Europe/Berlin")
    enrol(made, *[f"n{one}" for one in range(20)], site="b", zone="America/New_York")
    enrol(made, "e1", "e2", ring="early")
    text = ("" if "[[gates]]" in more else "gates = []\n") + STAGED_FILE + more
    plan = planned(made, text)
    times = plan.goals[0].times
    assert times is not None
    (rollout,) = apply(made, text).started

    course, passed = Course(made, plan), times.stages[-1].ends_at
    while state(made, rollout) is not State.SUCCEEDED:
        await course.turn()
        assert made.clock.at < passed + 3600

    assert course.stages == {
        name: number for number, stage in enumerate(times.stages) for name in stage.devices
    }
    assert abs(made.clock.at - passed) < 60 * len(times.stages)
