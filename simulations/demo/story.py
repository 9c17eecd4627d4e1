"""The demo, chapter by chapter: every line of the timeline is something that was observed."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from simulations.demo import digits
from simulations.demo.attacks import Attacks
from simulations.demo.evidence import DeviceEvidence, Evidence, Finding, told
from simulations.demo.lookout import Lookout
from simulations.demo.operator import MODEL, Operator, error_line
from simulations.demo.processes import ProcessFailed, run_command
from simulations.demo.relearning import Relearning
from simulations.demo.stage import SITES, Device, Stage
from simulations.demo.staged import Staged
from simulations.demo.timeline import Timeline
from simulations.demo.traffic import Traffic

BROKEN: Final = 2
LEAST_ACCURACY: Final = 0.9
ANSWERS: Final = 60
GOOD_VERSION: Final = 2


class Story:
    """Tells itself on a stage of at least five devices: two that break must be the fewer."""

    def __init__(self, stage: Stage, timeline: Timeline) -> None:
        self._stage, self._timeline = stage, timeline
        self._data = digits.load()
        self._lookout = Lookout(stage)
        self._operator = Operator(stage, timeline, self._data)
        self._attacks = Attacks(stage, timeline, self._operator)
        self._traffic = Traffic(MODEL, self._data.shown)
        self._staged = Staged(stage, timeline, self._operator, self._traffic)
        self._relearning = Relearning(stage, timeline, self._operator, self._traffic, self._data)
        self._accuracy: dict[str, float] = {}
        self._drift: dict[str, Any] = {"devices": []}
        self._inverted = {device.name for device in stage.devices[1 : 1 + BROKEN]}

    def tell(self) -> None:
        """All chapters, in order.

        Raises:
            ProcessFailed: a process or a command failed, or what must come did not come in time.
        """
        self.devices_join()
        self.two_people_approve()
        self.digits_are_classified()
        self.two_cameras_break()
        self.a_second_version_comes()
        self.a_third_version_is_bad()
        self.a_thief_is_refused()
        self._relearning.tell(GOOD_VERSION)
        self.nothing_was_lost()

    def stop(self) -> None:
        """Ends the requests."""
        self._traffic.stop()

    def devices_join(self) -> None:
        """A controller, and devices that join with one-time tokens."""
        self._timeline.chapter("Devices join with one-time tokens")
        with self._timeline.waiting("making a controller"):
            self._stage.found()
        self._timeline.saw("a controller runs: its own CAs, a TUF root that needs 2 of 3 keys")
        with self._timeline.waiting("devices join"):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(self._enrol, enumerate(self._stage.devices)))
            online = self._lookout.wait("devices online", self._lookout.online)
        over = "joined and online through the broker" if self._stage.broker else "online over mTLS"
        self._timeline.saw(f"{over}, each with a key of its own: {', '.join(online)}")
        self._a_used_token_is_refused()

    def two_people_approve(self) -> None:
        """A version is registered and signed by two people; every device proves that it runs it."""
        self._timeline.chapter("A version is registered, approved by two people and rolled out")
        self._operator.appoint()
        self._operator.register(1)
        refused = self._operator.refused("rollout", "start", f"{MODEL}/1", "--to", "all")
        self._timeline.saw(f"not signed, not rolled out: {refused}", held="[conflict]" in refused)
        self._operator.approve_all(1)
        self._operator.roll_out(1)

    def digits_are_classified(self) -> None:
        """Real photographs, at every device."""
        self._timeline.chapter("The devices classify real digits")
        for device in self._stage.devices:
            self._traffic.start(device.name, device.rest_port)
        with self._timeline.waiting("classifying"):
            self._lookout.wait("answers", lambda: self._traffic.each_was_asked(ANSWERS))
        self._accuracy = self._traffic.accuracy()
        worst = min(self._accuracy.values())
        self._timeline.saw(
            f"{self._traffic.images} photographs, {worst:.1%} right at the worst device",
            held=worst >= LEAST_ACCURACY,
        )
        cameras = self._traffic.cameras
        with self._timeline.waiting("watching"):
            drift = self._lookout.wait(
                "windows of every device", lambda: self._lookout.judged(MODEL, cameras, 1)
            )
        self._timeline.saw(
            f"the monitors: {verdicts(drift['devices'])}",
            held=all(one["verdict"] == "ok" for one in drift["devices"]),
        )

    def two_cameras_break(self) -> None:
        """Two cameras show inverted contrast, and the monitors find just these."""
        self._timeline.chapter(f"The contrast of {' and '.join(sorted(self._inverted))} inverts")
        for name in self._inverted:
            self._traffic.cameras[name].show = digits.inverted
        with self._timeline.waiting("watching"):
            self._drift = self._lookout.wait(
                "drift", partial(self._broken, {name: set() for name in self._inverted})
            )
        devices = self._drift["devices"]
        found = [one for one in devices if one["broken"]]
        names = {one["device"] for one in found}
        self._timeline.saw(
            f"unlike the rest: {', '.join(sorted(names))}", held=names == self._inverted
        )
        for one in found:
            moved = "; ".join(finding["detail"] for finding in one["findings"][:2])
            self._timeline.saw(f"{one['device']}: {moved}", held=bool(one["findings"]))
        rest = [one for one in devices if not one["broken"]]
        fine = all(one["verdict"] == "ok" for one in rest)
        self._timeline.saw(f"the others: {verdicts(rest)}", held=fine and len(rest) > 0)

    def a_second_version_comes(self) -> None:
        """Version 2 replaces version 1 under load, stage by stage."""
        self._timeline.chapter("A second version goes out in stages, while requests keep coming")
        self._operator.register(2)
        self._operator.approve_all(2)
        self._staged.good_version(2)

    def a_third_version_is_bad(self) -> None:
        """Version 3 fails on what cameras really see; its rollout stops and goes back by itself."""
        self._timeline.chapter("A third version is bad, and nobody is watching")
        self._timeline.saw("its author tried it on photographs without full ink, and on no others")
        self._operator.register_bad(3)
        self._operator.approve_all(3)
        self._staged.bad_version(3)

    def a_thief_is_refused(self) -> None:
        """Whoever has the controller still can't make a device run what people did not sign."""
        self._timeline.chapter("A thief has the controller and its online keys")
        honest = [device for device in self._stage.devices if device.name not in self._inverted]
        self._attacks.too_few_approvals(honest[-1], 4)
        self._attacks.tampered_bundle(honest[0], 4)
        self._attacks.honest_again(honest[-1], 4)
        self._attacks.replayed_directive(honest[0])
        self._operator.bring_back(GOOD_VERSION, honest[-1].name)

    def nothing_was_lost(self) -> None:
        """Every request was answered, and the audit record holds."""
        self._timeline.chapter("Afterwards")
        self.stop()
        asked, failed = self._traffic.asked, self._traffic.failed
        stopped = self._staged.stopped
        known = f", all of them on {stopped.canary} while it tried version 3" if stopped else ""
        at_canary = stopped.failed_at_canary if stopped else 0
        self._timeline.saw(
            f"{asked} requests in all, {failed} failed{known}", held=failed == at_canary
        )
        chain = self._stage.muster_json("audit", "verify")
        self._timeline.saw(
            f"the audit record holds: {chain['records']} records", held=chain["holds"]
        )

    def evidence(self) -> Evidence:
        """What was observed, as data."""
        slots = self._lookout.slots(MODEL)
        drift = {one["device"]: one for one in self._drift["devices"]}
        return Evidence(
            passed=not self._timeline.failed(),
            seconds=round(self._timeline.seconds, 1),
            devices=[self._device(one, slots, drift) for one in self._stage.devices],
            stopped=self._staged.stopped,
            relearnt=self._relearning.learnt,
            attacks=self._attacks.made,
            audit_records=self._stage.get("/audit/verify")["records"],
            windows_stored=self._lookout.windows_stored(MODEL),
            timeline=told(self._timeline.moments),
        )

    def _device(
        self, device: Device, slots: dict[str, Any], drift: dict[str, Any]
    ) -> DeviceEvidence:
        slot, seen = slots[device.name], drift.get(device.name, {})
        answers = self._traffic.cameras[device.name].answers
        fields = Finding.__struct_fields__
        return DeviceEvidence(
            device=device.name,
            model=MODEL,
            version=slot["version"],
            model_sha256=slot["model_sha256"],
            generation=slot["generation"],
            approvals_verified=slot["approvals"],
            verdict=seen.get("verdict", ""),
            unlike_the_rest=seen.get("broken", False),
            findings=[
                Finding(**{name: one[name] for name in fields}) for one in seen.get("findings", [])
            ],
            requests_served=answers.requests - answers.failed,
            requests_failed=answers.failed,
            images=answers.images,
            accuracy_before_drift=round(self._accuracy[device.name], 4),
            answered_by_version=answers.by_version,
            slowest_seconds=round(answers.slowest_seconds, 4),
            inverted=device.name in self._inverted,
        )

    def _broken(self, ended: dict[str, set[int]]) -> dict[str, Any] | None:
        """The drift report, once it shows the change alone; ``ended`` collects ends of windows."""
        for one in self._lookout.drift(MODEL)["devices"]:
            if one["device"] in ended:
                ended[one["device"]].add(one["last_ended_ms"])
        # One window is from before, and one may hold photographs of both kinds.
        alone = all(len(seen) > 2 for seen in ended.values())
        return self._lookout.broken(MODEL, self._inverted) if alone else None

    def _enrol(self, numbered: tuple[int, Device]) -> None:
        number, device = numbered
        self._stage.enrol(device, SITES[number % len(SITES)])
        device.daemon.start()

    def _a_used_token_is_refused(self) -> None:
        device = self._stage.devices[0]
        again = device.command()
        again[2] = str(device.home.with_name("twin"))
        try:
            run_command([*again, "enrol", self._stage.used_token, "--name", "twin"], {})
        except ProcessFailed as error:
            line = error_line(error)
            self._timeline.saw(f"a token used twice: {line}", held="[token-used]" in line)
        else:
            self._timeline.saw("a token used twice was accepted", held=False)


def verdicts(devices: list[dict[str, Any]]) -> str:
    """Every device's verdict, in one line."""
    return ", ".join(f"{one['device']} {one['verdict']} ({one['rows']} rows)" for one in devices)
