"""What can be seen of incidents and federated runs from outside: asked of the controller."""

from typing import Any, Final

from simulations.demo.operator import MODEL
from simulations.demo.stage import Stage

ENDED: Final = {"finished", "failed", "stopped", "dismissed"}


class Outlook:
    """Each look finds what there is by now, or None."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def incident(self) -> dict[str, Any] | None:
        """The newest incident with its story."""
        found = self._stage.get("/incidents", model=MODEL)
        return self._stage.get(f"/incidents/{found[0]['id']}") if found else None

    def recovered(self, incident: str) -> dict[str, Any] | None:
        """The incident with its story, once the fleet has recovered."""
        found: dict[str, Any] = self._stage.get(f"/incidents/{incident}")
        return found if found["incident"]["state"] == "recovered" else None

    def run_of(self, incident: str) -> str | None:
        """The incident's run, once there is one."""
        return str(self._stage.get(f"/incidents/{incident}")["incident"]["run"]) or None

    def run(self, name: str) -> dict[str, Any]:
        """The run, and what has come of it."""
        found: dict[str, Any] = self._stage.get(f"/federated/runs/{name}")
        return found

    def round_begun(self, name: str, number: int) -> bool | None:
        """Its tasks are with the devices."""
        run = self.run(name)
        done = {one["round"] for one in run["phases"] if one["phase"] == "train"}
        return (number - 1 in done and bool(run["under_way"])) or None

    def round_done(self, name: str, number: int) -> bool | None:
        """True once the round is over."""
        phases = self.run(name)["phases"]
        return any(one["phase"] == "train" and one["round"] >= number for one in phases) or None

    def ended(self, name: str) -> dict[str, Any] | None:
        """The run, once it has ended."""
        found = self.run(name)
        return found if found["run"]["state"] in ENDED else None

    def made(self, name: str) -> dict[str, Any] | None:
        """The version that came of the run."""
        version = self.run(name)["run"]["candidate"]
        return self._stage.get(f"/models/{MODEL}/versions/{version}") if version else None
