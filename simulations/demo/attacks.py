"""What a thief of the controller tries, and what the devices answer."""

import asyncio
import re
from typing import Final

from simulations.demo.evidence import Attack
from simulations.demo.lookout import Lookout
from simulations.demo.operator import APPROVERS, MODEL, Operator
from simulations.demo.stage import Device, Stage
from simulations.demo.thief import Thief
from simulations.demo.timeline import Timeline

_DIGEST: Final = re.compile(r"\b[0-9a-f]{64}\b")


class Attacks:
    """Three attacks, each refused by the device itself; ``made`` is what came of them."""

    def __init__(self, stage: Stage, timeline: Timeline, operator: Operator) -> None:
        self._stage, self._timeline, self._operator = stage, timeline, operator
        self._lookout = Lookout(stage)
        self._thief = Thief(stage.home)
        self.made: list[Attack] = []

    def too_few_approvals(self, device: Device, version: int) -> None:
        """Metadata that one approver has signed is published with the honest online keys."""
        self._operator.register(version)
        self._operator.approve(version, APPROVERS[0])
        self._thief.publish_anyway(MODEL, version)
        self._attempt(
            version,
            device,
            name="one approval too few",
            what="metadata that only alice has signed, under honest snapshot and timestamp",
            code="too-few-approvals",
        )
        self._thief.put_back(MODEL, version)

    def tampered_bundle(self, device: Device, version: int) -> None:
        """One bit of an approved model is another on the controller's disk."""
        self._operator.approve(version, APPROVERS[1])
        with self._thief.tampered_model(MODEL, version):
            self._attempt(
                version,
                device,
                name="a tampered bundle",
                what="one bit of an approved model is flipped on the controller's disk",
                code="hash-mismatch",
            )

    def honest_again(self, device: Device, version: int) -> None:
        """The very version that was refused, once it is signed and whole."""
        rollout = self._operator.start(version, f"id={device.name}")
        with self._timeline.waiting("signed by both, and whole"):
            ended = self._lookout.wait("version", lambda: self._lookout.ended(rollout))
        self._timeline.saw(
            f"signed by both, and whole: {device.name} takes that very version",
            held=ended["state"] == "succeeded",
        )

    def replayed_directive(self, device: Device) -> None:
        """The thief answers in the controller's place with what it once honestly sent."""
        old = self._thief.first_directive(device.name)
        self._stage.controller.kill()
        with self._timeline.waiting("the thief answers in the controller's place"):
            came = asyncio.run(self._thief.replay(old))
        self._timeline.saw(
            f"the controller was killed (-9); a thief with its keys answered {device.name}",
            held=came,
        )
        self._stage.start_controller()
        with self._timeline.waiting("the controller is back"):
            told = self._lookout.wait(
                "the device's word", lambda: self._lookout.event(device.name, "directive.refused")
            )
        self._note(
            Attack(
                name="a replayed directive",
                what=f"generation {old.generation}, as the controller once signed it",
                device=device.name,
                expected_code="stale-directive",
                code=told["code"],
                detail=told["detail"],
            )
        )

    def _attempt(self, version: int, device: Device, *, name: str, what: str, code: str) -> None:
        rollout = self._operator.start(version, f"id={device.name}")
        with self._timeline.waiting(name):
            ended = self._lookout.wait("the device's word", lambda: self._lookout.ended(rollout))
        standing = ended["standings"][0]
        self._note(
            Attack(
                name=name,
                what=what,
                device=device.name,
                expected_code=code,
                code=standing["code"],
                detail=standing["detail"],
            )
        )

    def _note(self, attack: Attack) -> None:
        self.made.append(attack)
        detail = _DIGEST.sub(lambda found: found[0][:12], attack.detail)
        self._timeline.saw(
            f"{attack.name}: {attack.device} refuses it [{attack.code}] {detail}",
            held=attack.refused,
        )
