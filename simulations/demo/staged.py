"""Two versions that go out in stages: a good one, and a bad one that takes itself back."""

from dataclasses import dataclass
from typing import Any

from simulations.demo.evidence import Stopped
from simulations.demo.lookout import ENDED, Lookout
from simulations.demo.operator import MODEL, SOAK_SECONDS, Operator
from simulations.demo.stage import Stage
from simulations.demo.timeline import Timeline
from simulations.demo.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Before:
    """How it stood when a rollout began: by device, what it was told last, and failed requests."""

    generations: dict[str, int]
    failed: dict[str, int]


class Staged:
    """One camera first, then all; ``stopped`` is what came of the bad version."""

    def __init__(
        self, stage: Stage, timeline: Timeline, operator: Operator, traffic: Traffic
    ) -> None:
        self._stage, self._timeline = stage, timeline
        self._operator, self._traffic = operator, traffic
        self._lookout = Lookout(stage)
        self.stopped: Stopped | None = None

    def good_version(self, version: int) -> None:
        """A canary has it alone, and soaks; then all get it."""
        asked, failed = self._traffic.asked, self._traffic.failed
        rollout = self._operator.apply(version)
        self._one_is_first(rollout, version)
        with self._timeline.waiting("then all"):
            ended = self._lookout.wait("end of the rollout", lambda: self._lookout.ended(rollout))
            self._lookout.wait(
                f"answers of version {version}",
                lambda: self._traffic.each_answered_with(str(version)),
            )
        held = ended["state"] == "succeeded" and ended["ok"] == len(self._stage.devices)
        passed = ended["stages"][-1]["reason"].partition("\n")[0]
        self._timeline.saw(f"then all: {passed}", held=held)
        self._operator.see_proof(version)
        asked, failed = self._traffic.asked - asked, self._traffic.failed - failed
        self._timeline.saw(
            f"{asked} requests meanwhile, {failed} dropped or failed", held=failed == 0
        )

    def bad_version(self, version: int) -> None:
        """The canary finds out, and nobody else gets it."""
        before, good = self._now(), version - 1
        rollout = self._operator.apply(version)
        with self._timeline.waiting(f"nobody looks after {rollout}"):
            ended = self._lookout.wait("end of the rollout", lambda: self._lookout.ended(rollout))
        stopped = self.stopped = self._seen(ended, before)
        canary, failed = stopped.canary, stopped.failed_at_canary
        words = stopped.state.replace("-", " ")
        self._timeline.saw(
            f"{canary} has it alone: it passes its self-test, and fails {failed} real requests "
            f"[{stopped.code}] {stopped.detail}",
            held=stopped.code == "probation-failed" and failed > 0,
        )
        self._timeline.saw(
            f"after {stopped.seconds:.0f} s, and by itself, the rollout is {words}: "
            f"{stopped.reason}",
            held=stopped.state == "rolled-back",
        )
        back = self._lookout.running(MODEL, good)
        self._timeline.saw(
            f"{canary} has signed that it runs {MODEL}/{good} again", held=canary in back
        )
        rest = len(self._stage.devices) - 1
        self._timeline.saw(
            f"the other {rest} were told nothing and loaded nothing; {stopped.failed_elsewhere} of "
            "their requests failed",
            held=len(stopped.untouched) == rest and stopped.failed_elsewhere == 0,
        )

    def _one_is_first(self, rollout: str, version: int) -> None:
        early: set[str] = set()

        def passed() -> dict[str, Any] | None:
            answered = self._traffic.answered_with(str(version))
            found: dict[str, Any] = self._stage.get(f"/rollouts/{rollout}")
            if found["stages"][0]["state"] == "passed" or found["state"] in ENDED:
                return found
            early.update(answered)  # before the first stage had passed
            return None

        with self._timeline.waiting(f"one camera has {MODEL}/{version}"):
            found = self._lookout.wait("end of the first stage", passed)
        first = [one["device"] for one in found["standings"] if one["stage"] == 0]
        stage = found["stages"][0]
        why = stage["reason"].partition("\n")[0]
        self._timeline.saw(
            f"the fleet's file says one camera first: {', '.join(first)} alone has it, and keeps "
            f"it for {SOAK_SECONDS} s: {why}",
            held=stage["state"] == "passed" and len(first) == 1 and early <= set(first),
        )

    def _now(self) -> Before:
        cameras = self._traffic.cameras
        return Before(
            {name: self._generation(name) for name in cameras},
            {name: camera.answers.failed for name, camera in cameras.items()},
        )

    def _generation(self, device: str) -> int:
        return int(self._stage.get(f"/devices/{device}")["generation"])

    def _seen(self, ended: dict[str, Any], before: Before) -> Stopped:
        standing = ended["standings"][0]
        after, canary = self._now(), standing["device"]
        failed = {name: count - before.failed[name] for name, count in after.failed.items()}
        return Stopped(
            rollout=ended["id"],
            version=ended["version"],
            state=ended["state"],
            reason=ended["reason"],
            seconds=round(ended["ended_at"] - ended["created_at"], 1),
            canary=canary,
            code=standing["code"],
            detail=standing["detail"],
            failed_at_canary=failed[canary],
            failed_elsewhere=sum(failed.values()) - failed[canary],
            untouched=sorted(
                name
                for name, generation in after.generations.items()
                if generation == before.generations[name]
            ),
        )
