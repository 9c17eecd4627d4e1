"""One value of each kind that the controller stores."""

from dataclasses import replace

from controller.access.operator import Operator, Role
from controller.enrolment.token import JoinToken
from controller.fleet.device import Device, SlotState
from controller.registry.version import Change, Model, Pending, State, Version
from controller.rollout import rollout as rollouts
from controller.rollout.rollout import Rollout, SignedDirective, Wanted
from controller.store.store import Store
from controller.telemetry.record import (
    Rejections,
    StoredEvent,
    StoredReport,
    StoredResources,
    StoredWindow,
)

DEVICE = Device(
    id="dev-1",
    enrolled_at=1.5,
    public_key_pem=b"pem",
    certificate_serial="ff01",
    certificate_expires=99.25,
    labels={"site": "berlin"},
    facts={"arch": "aarch64"},
)
SLOT = SlotState(
    device="dev-1",
    model="digits",
    slot="champion",
    version=3,
    running=True,
    state="committed",
    manifest_sha256="m" * 64,
    model_sha256="d" * 64,
    approvals=2,
    generation=7,
    counter=11,
    reported_at=5.5,
    soaked=1800,
)
TOKEN = JoinToken("t1", "s" * 64, 1.0, 2.0, "ada", {"site": "berlin"})
OPERATOR = Operator("ada", Role.ADMIN, "a" * 64, 1.0)
MODEL = Model("digits", 1.0, 2, {"key1": "ada", "key2": "bob"}, "reads digits")
VERSION = Version("digits", 1, State.DRAFT, b"{}", "m" * 64, 1.0, "ada", ("too slow",))
PENDING = Pending("digits", 1, Change.ADD, b"{}", 1.0, "ada", ("key1",))
ROLLOUT = Rollout("r1", "digits", 1, "site=berlin", rollouts.State.RUNNING, 1.0, "ada")
WANTED = Wanted("dev-1", "digits", "champion", 1, "r1", 1.0, attempt=2, soak_seconds=1800)
DIRECTIVE = SignedDirective("dev-1", 1, b"envelope", 1.0)
WINDOW = StoredWindow(
    device="dev-1",
    spool="spool",
    sequence=1,
    model="digits",
    version=1,
    profile_sha256="p" * 64,
    window_id="w1",
    started_ms=1_000,
    ended_ms=2_000,
    rows=50,
    verdict=2,
    payload=b"\x00window",
)
EVENT = StoredEvent(
    "dev-1", "spool", 2, 2_000, "install.failed", "error", "digits", 1, "hash-mismatch", "no", {}
)
READING = StoredResources("dev-1", "spool", 3, 2_000, b"\x00reading")
REPORT = StoredReport("dev-1", 1, 7, 5, 5.5, b"\x00envelope")
REJECTIONS = Rejections("dev-1", "report.replay", 2_000, 3)


def window(sequence: int, **changes: object) -> StoredWindow:
    return replace(WINDOW, sequence=sequence, window_id=f"w{sequence}", **changes)  # type: ignore[arg-type]


class Interrupted(BaseException):
    """Not even an Exception: a KeyboardInterrupt behaves like this."""


def label_and_fail(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, labels={"site": "nowhere"}))
        raise Interrupted
