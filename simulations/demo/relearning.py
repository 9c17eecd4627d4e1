"""The world changes for every camera, and the fleet learns it where the photographs are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from simulations.demo import digits
from simulations.demo.evidence import Relearnt, RoundEvidence
from simulations.demo.lookout import Lookout
from simulations.demo.operator import MODEL, Operator
from simulations.demo.outlook import Outlook
from simulations.demo.stage import Device, Stage
from simulations.demo.timeline import Timeline
from simulations.demo.traffic import Traffic, exam

LEAST_AFTER: Final = 0.85
"""Right answers on inverted photographs that no camera shows, once all is well again."""
MOST_LOST: Final = 0.05
"""So much may be lost on plain ones."""
MOST_BYTES: Final = 0.13
"""Of the model, for the step that makes the candidate of its parent."""
RUN_SECONDS: Final = 150.0


@dataclass(frozen=True, slots=True)
class Marks:
    """The share of right answers at the worst device, on photographs that no camera shows."""

    plain: float
    inverted: float


class Relearning:
    """Drift over all cameras, an incident, a run, a candidate; ``learnt`` is what came of it.

    The last device has been taken over, and the one before it is killed in the middle of a round.
    """

    def __init__(
        self,
        stage: Stage,
        timeline: Timeline,
        operator: Operator,
        traffic: Traffic,
        data: digits.Digits,
    ) -> None:
        self._stage, self._timeline = stage, timeline
        self._operator, self._traffic, self._data = operator, traffic, data
        self._lookout, self._outlook = Lookout(stage), Outlook(stage)
        self._thief, self._lost = stage.devices[-1], stage.devices[-2]
        self.learnt: Relearnt | None = None

    def tell(self, parent: int) -> None:
        """All of it, from ``parent`` on, which every device runs."""
        before = self._marks()
        incident = self._all_cameras_invert(before)
        run = self._devices_learn(incident)
        version = self._candidate(run, parent)
        rounds = [_round(one) for one in run["phases"] if one["phase"] == "train"]
        self._goes_out(version)
        after = self._accuracy_is_back(before)
        story = self._the_story(incident)
        step, model = self._bytes(version)
        self.learnt = Relearnt(
            incident=incident,
            run=run["run"]["id"],
            candidate=version,
            accuracy_before=round(before.plain, 4),
            accuracy_drifted=round(before.inverted, 4),
            accuracy_after=round(after.inverted, 4),
            accuracy_after_on_plain=round(after.plain, 4),
            update_bytes=step,
            model_bytes=model,
            rounds=rounds,
            story=story,
        )

    def _all_cameras_invert(self, before: Marks) -> str:
        self._timeline.chapter("The contrast of all cameras inverts")
        self._timeline.saw(
            f"{MODEL} has learnt plain photographs: at the worst device {before.plain:.1%} of those "
            f"that no camera shows are right, and {before.inverted:.1%} of the same ones inverted",
            held=before.plain > LEAST_AFTER > before.inverted,
        )
        with self._away(self._thief):
            self._stage.take_over(self._thief)
        self._timeline.saw(
            f"somebody has taken {self._thief.name} over: it sends the opposite of what it learns, "
            "twenty times over, with a key and a certificate that are good"
        )
        for camera in self._traffic.cameras.values():
            camera.show = digits.inverted
        with self._timeline.waiting("watching"):
            found = self._lookout.wait("incident", self._outlook.incident)
        name = found["incident"]["id"]
        for line in found["story"]:
            if line["kind"] == "finding":
                self._timeline.saw(f"{name}: {line['sentence']}")
        return str(name)

    def _devices_learn(self, incident: str) -> dict[str, Any]:
        self._timeline.chapter(
            "The devices learn what their cameras see; no photograph leaves them"
        )
        name = self._lookout.wait("run", partial(self._outlook.run_of, incident))
        self._timeline.saw(f"the fleet's file lets it start by itself: {name}")
        with self._timeline.waiting("learning"):
            self._lookout.wait(
                "the second round", partial(self._outlook.round_begun, name, 2), RUN_SECONDS
            )
        self._traffic.cameras[self._lost.name].rest()
        self._lost.daemon.kill()
        self._timeline.saw(f"in the middle of a round {self._lost.name} is killed")
        with self._timeline.waiting("the others go on"):
            self._lookout.wait(
                "the end of that round", partial(self._outlook.round_done, name, 2), RUN_SECONDS
            )
        with self._away(self._lost):
            self._lost.daemon.start()
        with self._timeline.waiting("learning"):
            run: dict[str, Any] = self._lookout.wait(
                "the end of the run", partial(self._outlook.ended, name), RUN_SECONDS
            )
        for one in run["phases"]:
            if one["phase"] == "train":
                self._timeline.saw(_line(one))
        told = run["run"]
        refused = sum(one["refused"] for one in run["phases"])
        silent = sum(one["silent"] + one["declined"] for one in run["phases"])
        up = sum(one["bytes_up"] for one in run["phases"])
        self._timeline.saw(
            f"{told['id']} is {told['state']}: what {self._thief.name} sent was refused {refused} times,"
            f" {self._lost.name} was missed; {up / 1000:.0f} kB came from all devices together",
            held=told["state"] == "finished" and refused > 0 and silent > 0,
        )
        return run

    def _candidate(self, run: dict[str, Any], parent: int) -> int:
        found = self._lookout.wait("candidate", partial(self._outlook.made, run["run"]["id"]))
        version = int(found["version"])
        manifest = found["manifest"]
        held_out = manifest["metrics"]
        said = ", ".join(f"{name} {value:.3g}" for name, value in sorted(held_out.items()))
        lineage = manifest["lineage"]
        self._timeline.saw(
            f"{MODEL}/{version} is {found['state']}: made of {MODEL}/{lineage['parent']} by "
            f"{lineage['training_run']}; on what devices hold out: {said}",
            held=found["state"] == "validated" and lineage["parent"] == parent,
        )
        step, model = self._bytes(version)
        self._timeline.saw(
            f"its parent and a step of {step:,} bytes make it: {step / model:.1%} of the model",
            held=step <= MOST_BYTES * model,
        )
        return version

    def _goes_out(self, version: int) -> None:
        self._timeline.chapter("People approve it, and it goes out in stages like any other")
        with self._away(self._thief):
            self._stage.give_back(self._thief)
        self._operator.approve_all(version)
        rollout = self._operator.apply(version)
        with self._timeline.waiting(f"{rollout} goes out"):
            ended = self._lookout.wait("end of the rollout", lambda: self._lookout.ended(rollout))
        held = ended["state"] == "succeeded" and ended["ok"] == len(self._stage.devices)
        passed = ended["stages"][-1]["reason"].partition("\n")[0]
        self._timeline.saw(f"one camera first, then all: {passed}", held=held)
        self._operator.see_proof(version)

    def _accuracy_is_back(self, before: Marks) -> Marks:
        after = self._marks()
        self._timeline.saw(
            f"of photographs that no camera shows {after.inverted:.1%} are right at the worst device "
            f"when inverted (before: {before.inverted:.1%}), and {after.plain:.1%} when plain "
            f"(before: {before.plain:.1%})",
            held=after.inverted >= LEAST_AFTER and after.plain >= before.plain - MOST_LOST,
        )
        return after

    def _the_story(self, incident: str) -> list[str]:
        with self._timeline.waiting("watching"):
            found = self._lookout.wait("recovery", partial(self._outlook.recovered, incident))
        told = [f"{line['subject']}: {line['sentence']}" for line in found["story"]]
        self._timeline.saw(
            f"{incident} is {found['incident']['state']}: its story has {len(told)} lines, from the "
            f"first finding to the last: {told[-1]}",
            held=found["incident"]["state"] == "recovered",
        )
        return told

    @contextmanager
    def _away(self, device: Device) -> Iterator[None]:
        """Has the device's camera wait while the block starts its agent, until that answers."""
        camera = self._traffic.cameras[device.name]
        camera.rest()
        yield
        with self._timeline.waiting(f"{device.name} starts"):
            self._lookout.wait(f"answer of {device.name}", camera.ready)
        camera.go_on()

    def _marks(self) -> Marks:
        kept = self._data.kept
        turned = digits.Photographs(digits.inverted(kept.images), kept.labels)
        ports = [device.rest_port for device in self._stage.devices]
        return Marks(
            plain=min(exam(port, MODEL, kept) for port in ports),
            inverted=min(exam(port, MODEL, turned) for port in ports),
        )

    def _bytes(self, version: int) -> tuple[int, int]:
        files = self._stage.get(f"/models/{MODEL}/versions/{version}")["manifest"]["files"]
        return files["model_step"]["length"], files["model"]["length"]


def _line(phase: dict[str, Any]) -> str:
    reasons = ", ".join(f"{code} {count}" for code, count in sorted(phase["reasons"].items()))
    lost = f"; not counted: {reasons}" if reasons else ""
    silent = f"; {phase['silent']} silent" if phase["silent"] else ""
    seconds = phase["ended_at"] - phase["began_at"]
    return (
        f"round {phase['round']}: {phase['admitted']} of {phase['selected']} devices counted, in "
        f"{seconds:.1f} s{lost}{silent}"
    )


def _round(phase: dict[str, Any]) -> RoundEvidence:
    return RoundEvidence(
        round=phase["round"],
        selected=phase["selected"],
        admitted=phase["admitted"],
        declined=phase["declined"],
        refused=phase["refused"],
        silent=phase["silent"],
        reasons=phase["reasons"],
        metrics=phase["metrics"],
        bytes_up=phase["bytes_up"],
        bytes_down=phase["bytes_down"],
        seconds=round(phase["ended_at"] - phase["began_at"], 2),
    )
