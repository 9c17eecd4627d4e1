"""What is told of a fleet's file before it is applied, and that it comes so."""

import msgspec
import pytest

from controller.fleet_config.estimate import openings
from controller.fleet_config.plan import FleetPlan
from controller.fleet_config.sentences import plan_lines
from controller.registry.version import State as VersionState
from controller.registry.version import Version
from controller.rollout.rollout import CONTROL, State
from protos.manifest import File, Lineage, Role
from tests.controller.fleet_config.applying import (
    FLEET,
    apply,
    enrol,
    names,
    planned,
    reported,
    state,
    world,
)
from tests.controller.rollout.world import World, manifest


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
