"""What can be seen of a stage from outside: asked of the controller and of the devices."""

from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from controller.cli.output import CommandFailed
from simulations.demo.processes import wait_for
from simulations.demo.stage import Stage

Found = TypeVar("Found")

STEP_SECONDS: Final = 60.0
ENDED: Final = {"succeeded", "paused", "superseded", "aborted", "rolled-back"}


class Lookout:
    """Looks, and waits until it sees."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def wait(
        self, what: str, probe: Callable[[], Found | None], seconds: float = STEP_SECONDS
    ) -> Found:
        """What ``probe`` finds, as soon as it does.

        Raises:
            ProcessFailed: it took too long, or a process has ended.
        """
        return wait_for(what, probe, seconds, self._stage.daemons(), interval=0.2)

    def online(self) -> list[str] | None:
        """The devices, once all of them are online."""
        names = {device.name for device in self._stage.devices}
        found = [
            one["id"]
            for one in self._stage.get("/devices")
            if one["presence"] == "online" and one["id"] in names
        ]
        return sorted(found) if len(found) == len(names) else None

    def ended(self, rollout: str) -> dict[str, Any] | None:
        """The rollout, once it has ended."""
        found: dict[str, Any] = self._stage.get(f"/rollouts/{rollout}")
        return found if found["state"] in ENDED else None

    def running(self, model: str, version: int) -> dict[str, dict[str, Any]]:
        """By device, the slot that its signed reports say runs and has proven the version."""
        return {
            device["id"]: slot
            for device in self._stage.get("/devices")
            for slot in device["slots"]
            if (slot["model"], slot["version"], slot["running"]) == (model, version, True)
            and slot["state"] == "committed"
        }

    def slots(self, model: str) -> dict[str, dict[str, Any]]:
        """By device, the slot that answers for the model, with the generation it was told."""
        return {
            device["id"]: slot
            for device in self._stage.get("/devices")
            for slot in device["slots"]
            if slot["model"] == model and slot["running"]
        }

    def drift(self, model: str) -> dict[str, Any]:
        """What the monitors have found, over all windows."""
        found: dict[str, Any] = self._stage.get(f"/drift/{model}")
        return found

    def windows_stored(self, model: str) -> int:
        """How many windows of all versions the controller has stored."""
        found = 0
        for one in self._stage.get(f"/models/{model}")["versions"]:
            try:
                found += self._stage.get(f"/drift/{model}", version=one["version"])["windows"]
            except CommandFailed as error:
                if error.code != "not-found":  # no device has told of that version
                    raise
        return found

    def judged(self, model: str, devices: Collection[str], windows: int) -> dict[str, Any] | None:
        """The drift report, once every device has told of so many windows."""
        found = self.drift(model)
        told = {one["device"] for one in found["devices"] if one["windows"] >= windows}
        return found if told >= set(devices) else None

    def broken(self, model: str, expected: Collection[str]) -> dict[str, Any] | None:
        """The drift report, once it names at least the expected devices as unlike the rest."""
        found = self.drift(model)
        named = {one["device"] for one in found["devices"] if one["broken"]}
        return found if named >= set(expected) else None

    def event(self, device: str, name: str) -> dict[str, Any] | None:
        """The device's newest event of that name."""
        found: list[dict[str, Any]] = self._stage.get("/events", device=device)
        return next((one for one in found if one["name"] == name), None)
