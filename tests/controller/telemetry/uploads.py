"""What one device sends, and what of it the store has then."""

from dataclasses import dataclass

from agent.identity.keys import generate_key, public_key, signer
from agent.monitor.reference import CELLS
from controller.fleet.device import Device
from controller.store.store import Store
from controller.telemetry.actions import upload
from protos.documents import Report, SlotReport
from protos.envelope import seal
from protos.v1 import common_pb2, telemetry_pb2

NOW = 1_800_000_000.0
NOW_MS = int(NOW * 1000)
KEY = generate_key()
SERIES = [50] + [0] * (CELLS - 1)  # the counts of one series over 50 rows
RUNNING = SlotReport(
    model="digits",
    slot="champion",
    version=3,
    state="committed",
    manifest_sha256="a" * 64,
    model_sha256="b" * 64,
    approvals=2,
)


def enrol(store: Store, device: str, key: bytes) -> None:
    with store.begin() as tx:
        tx.devices.put(Device(device, NOW - 100, public_key(key), "ff", NOW + 100))


def window(sequence: int, **changes: object) -> telemetry_pb2.Record:
    values: dict[str, object] = {
        "model": "digits",
        "version": 3,
        "manifest_sha256": "a" * 64,
        "profile_sha256": "c" * 64,
        "window_id": f"w{sequence}",
        "started_ms": NOW_MS - 60_000,
        "ended_ms": NOW_MS - 1_000,
        "rows": 50,
        "counts": SERIES * 2,
        "sums": [1.0, 2.0, float("inf"), float("-inf")] * 2,
        "verdict": telemetry_pb2.VERDICT_OK,
        **changes,
    }
    made = telemetry_pb2.Window(**values)  # type: ignore[arg-type]
    return telemetry_pb2.Record(sequence=sequence, recorded_ms=NOW_MS, window=made)


def event(
    sequence: int, name: str = "install.committed", **changes: object
) -> telemetry_pb2.Record:
    values: dict[str, object] = {"name": name, "severity": "info", **changes}
    made = telemetry_pb2.Event(**values)  # type: ignore[arg-type]
    return telemetry_pb2.Record(sequence=sequence, recorded_ms=NOW_MS, event=made)


def reading(sequence: int) -> telemetry_pb2.Record:
    made = telemetry_pb2.Resources(cpu_share=0.25, resident_bytes=80 * 2**20)
    return telemetry_pb2.Record(sequence=sequence, recorded_ms=NOW_MS, resources=made)


def report(
    sequence: int, counter: int, key: bytes = KEY, **changes: object
) -> telemetry_pb2.Record:
    values: dict[str, object] = {
        "device": "dev-1",
        "counter": counter,
        "generation": 7,
        "reported_at": int(NOW),
        "running": (RUNNING,),
        **changes,
    }
    sealed = seal(Report(**values), signer(key))  # type: ignore[arg-type]
    envelope = common_pb2.Envelope.FromString(sealed)
    return telemetry_pb2.Record(sequence=sequence, recorded_ms=NOW_MS, report=envelope)


def send(
    store: Store,
    *records: telemetry_pb2.Record,
    spool: str = "spool",
    dropped: dict[str, int] | None = None,
    now: float = NOW,
) -> int:
    request = telemetry_pb2.UploadRequest(
        spool_id=spool,
        records=records,
        dropped=[
            telemetry_pb2.Dropped(kind=kind, count=count) for kind, count in (dropped or {}).items()
        ],
    )
    reply = upload(store, "dev-1", request.SerializeToString(), now)
    return telemetry_pb2.UploadReply.FromString(reply).stored_through


@dataclass(frozen=True)
class Stored:
    windows: list[str]
    events: list[str]
    readings: int
    reports: list[int]
    rejected: dict[int, str]


def stored(store: Store) -> Stored:
    with store.begin() as tx:
        events = sorted(tx.telemetry.events("dev-1", limit=1000), key=lambda one: one.sequence)
        return Stored(
            windows=[one.window_id for one in tx.telemetry.windows("digits")],
            events=[one.name for one in events if one.name != "telemetry.rejected"],
            readings=len(tx.telemetry.resources("dev-1", limit=1000)),
            reports=[one.counter for one in tx.telemetry.reports("dev-1")],
            rejected={one.sequence: one.code for one in events if one.name == "telemetry.rejected"},
        )
