"""The people of the demo, at their commands: one registers, two approve, one rolls out."""

from collections.abc import Callable
from typing import Any, Final

from protos.documents import sha256
from simulations.demo import digits
from simulations.demo.lookout import Lookout
from simulations.demo.processes import ProcessFailed
from simulations.demo.stage import Stage
from simulations.demo.timeline import Timeline

MODEL: Final = "digits"
APPROVERS: Final = ("alice", "bob")

FLEET_FILE: Final = """\
gates = []                         # but for those of the last stage

[fleet]
name = "cameras"
selector = "site in (berlin, oslo)"

[[models]]
name = "{model}"
version = "{model}/{version}"

[control]
percent = 0                        # too few devices to hold some back

[[stages]]
name = "canary"
count = 1
soak = {soak}
on_breach = "rollback-all"

[[stages]]
name = "all"
percent = 100
soak = {soak}
on_breach = "rollback-all"

[[stages.gates]]
metric = "error-rate"
limit = 0.01

[[retraining]]                     # if most cameras see something else
model = "{model}"
retrain = "start"
share = 0.8
after = "0s"
rounds = 5
seed = 7

[retraining.training]
epochs = 8
batch_size = 16
learning_rate = 0.2

[retraining.round]
minimum_cohort = 3
deadline = "15s"

[retraining.admission]
norm_ratio = 4.0                   # one that sends far more than the others does not count

[proof]
minimum_devices = 1
failing_below = 1.0                # so few devices can prove no more
"""
"""One camera first, then all; what goes wrong takes itself back."""

SOAK_SECONDS: Final = 3

Training = Callable[[digits.Digits, int], digits.Trained]


class Operator:
    """Uses the commands that the README shows, and notes what they answer."""

    def __init__(self, stage: Stage, timeline: Timeline, data: digits.Digits) -> None:
        self._stage, self._timeline, self._data = stage, timeline, data
        self._lookout = Lookout(stage)

    def appoint(self) -> None:
        """Makes the approvers' keys, and has the targets key say that both must sign."""
        for name in APPROVERS:
            self._stage.muster("key", "create", name)
        keys = self._stage.folder / "keys"
        named = [part for name in APPROVERS for part in ("--approver", str(keys / f"{name}.json"))]
        self._stage.muster(
            *("model", "create", MODEL, *named, "--threshold", str(len(APPROVERS))),
            *("--targets-key", str(self._stage.home / "offline" / "targets.pem"), "--yes"),
        )
        self._timeline.saw(f"the targets key says: versions of {MODEL} need alice and bob")

    def register(self, version: int) -> None:
        """Trains a version and registers it."""
        self._register(version, self._data, digits.train, "--trainable", "all")

    def register_bad(self, version: int) -> None:
        """Likewise, a version whose author has not seen what cameras see."""
        self._register(version, digits.pale(self._data), digits.train_off_by_one)

    def _register(self, version: int, data: digits.Digits, train: Training, *options: str) -> None:
        with self._timeline.waiting(f"training version {version} on scikit-learn's digits"):
            trained = train(data, version)
        folder = self._stage.folder / "models"
        folder.mkdir(exist_ok=True)
        onnx, reference = folder / f"{MODEL}-{version}.onnx", folder / "reference.npz"
        onnx.write_bytes(trained.onnx)
        reference.write_bytes(digits.reference_file(data.holdout_images, data.holdout_labels))
        with self._timeline.waiting("registering: checks, profile, calibrated thresholds"):
            made = self._stage.muster_json(
                *("model", "register", MODEL, str(onnx), "--reference", str(reference)),
                *options,
            )
        digest = made["manifest"]["files"]["model"]["sha256"]
        self._timeline.saw(
            f"{MODEL}/{made['version']} is {made['state']}: {trained.accuracy:.1%} right on "
            f"photographs it has not seen; model {digest[:12]}",
            # Of one that devices may train, registration makes the file that is shipped.
            held=made["version"] == version and (bool(options) or digest == sha256(trained.onnx)),
        )

    def approve(self, version: int, name: str) -> None:
        """One approver checks and signs."""
        key = str(self._stage.folder / "keys" / f"{name}.pem")
        self._stage.muster("model", "approve", f"{MODEL}/{version}", "--key", key, "--yes")

    def approve_all(self, version: int) -> None:
        """Both approvers check and sign."""
        for name in APPROVERS:
            self.approve(version, name)
        state = self._stage.get(f"/models/{MODEL}/versions/{version}")["state"]
        self._timeline.saw(
            f"alice and bob have signed, each on their side: {MODEL}/{version} is {state}",
            held=state == "published",
        )

    def start(self, version: int, selector: str) -> str:
        """Starts a rollout; returns its id."""
        words = ("rollout", "start", f"{MODEL}/{version}", "--to", selector, "--at-once")
        return str(self._stage.muster_json(*words)["id"])

    def apply(self, version: int) -> str:
        """Names the version in the fleet's file and applies it; returns the new rollout's id."""
        file = self._stage.folder / "cameras.toml"
        file.write_text(FLEET_FILE.format(model=MODEL, version=version, soak=SOAK_SECONDS))
        (rollout,) = self._stage.muster_json("fleet", "apply", str(file))["started"]
        return str(rollout)

    def roll_out(self, version: int) -> None:
        """Brings the version to every device, and checks what they have signed."""
        rollout = self.start(version, "site in (berlin, oslo)")
        with self._timeline.waiting(f"rolling out {MODEL}/{version}"):
            ended = self._lookout.wait("end of the rollout", lambda: self._lookout.ended(rollout))
        everyone = {device.name for device in self._stage.devices}
        self._timeline.saw(ended["because"][0], held=ended["ok"] == len(everyone))
        self.see_proof(version)

    def bring_back(self, version: int, device: str) -> None:
        """Has one device run the version that the others run."""
        rollout = self.start(version, f"id={device}")
        with self._timeline.waiting(f"{device} goes back to {MODEL}/{version}"):
            ended = self._lookout.wait("end of the rollout", lambda: self._lookout.ended(rollout))
        self._timeline.saw(
            f"{device} runs {MODEL}/{version} again, as the others do", held=ended["ok"] == 1
        )

    def see_proof(self, version: int) -> None:
        """Checks what every device has signed of the version."""
        everyone = {device.name for device in self._stage.devices}
        files = self._stage.get(f"/models/{MODEL}/versions/{version}")["manifest"]["files"]
        digest = files["model"]["sha256"]
        proven = self._lookout.running(MODEL, version)
        self._timeline.saw(
            f"each device has signed that it loaded model {digest[:12]} "
            f"and verified {len(APPROVERS)} approvals",
            held=proven.keys() == everyone
            and all(_proves(slot, digest) for slot in proven.values()),
        )

    def refused(self, *words: str) -> str:
        """What a command says that must be refused; "accepted" if it was not."""
        try:
            self._stage.muster(*words)
        except ProcessFailed as error:
            return error_line(error)
        return "accepted"


def _proves(slot: dict[str, Any], digest: str) -> bool:
    return bool(slot["model_sha256"] == digest and slot["approvals"] == len(APPROVERS))


def error_line(error: ProcessFailed) -> str:
    """What a refused command said."""
    lines = [one for one in str(error).splitlines() if one.startswith("error: ")]
    return lines[0].removeprefix("error: ") if lines else str(error).splitlines()[-1]
