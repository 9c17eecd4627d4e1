"""How fast windows come in: uploads through the controller's own code, against bare SQLite."""

import random
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from agent.identity.keys import generate_key, public_key
from controller.fleet.device import Device
from controller.store.sql import SqlStore
from controller.telemetry.actions import upload
from protos.v1 import telemetry_pb2
from simulations.bench.row import BenchRow
from simulations.bench.windows import SERIES, window

WINDOWS: Final = 20  # of one upload
DEVICES: Final = 50
ROUNDS: Final = 5
TARGET: Final = 2_000.0
_NOW: Final = 1_900_000_000.0


def rows() -> list[BenchRow]:
    """Windows stored each second, durably, exactly once; medians of interleaved rounds."""
    rng = random.Random(7)  # noqa: S311 - data that every run has alike
    key = public_key(generate_key())
    ours: list[float] = []
    bare: list[float] = []
    cpu: list[float] = []
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        store = SqlStore.open(f"sqlite:///{folder}/muster.db")
        with store.begin() as tx:
            for number in range(DEVICES):
                tx.devices.put(Device(f"dev-{number:04}", _NOW, key, "ff", _NOW))
        with closing(_bare(Path(folder) / "bare.db")) as database:
            for turn in range(ROUNDS):
                uploads = [_upload(rng, number, turn) for number in range(DEVICES)]
                began, spent = time.perf_counter(), time.process_time()
                for device, request in uploads:
                    upload(store, device, request, _NOW)
                ours.append(DEVICES * WINDOWS / (time.perf_counter() - began))
                cpu.append((time.process_time() - spent) / (DEVICES * WINDOWS))
                bare.append(DEVICES * WINDOWS / _write_bare(database, uploads, turn))
        with store.begin() as tx:
            stored = tx.telemetry.window_count()
        store.close()
    if stored != ROUNDS * DEVICES * WINDOWS:
        raise ArithmeticError(f"{stored} windows stored of {ROUNDS * DEVICES * WINDOWS}")
    speed, plain = statistics.median(ours), statistics.median(bare)
    size = len(uploads[0][1]) / WINDOWS
    return [
        BenchRow(
            "telemetry ingest",
            speed,
            "windows/s",
            TARGET,
            ratio=f"{plain / speed:.1f} times the time of bare sqlite3 ({plain:,.0f} windows/s)",
            note=f"{SERIES} series, {size / 1024:.1f} KiB a window, {WINDOWS} an upload, each "
            f"checked, de-duplicated and durable; {statistics.median(cpu) * 1e6:.0f} µs CPU each",
        )
    ]


def _upload(rng: random.Random, device: int, turn: int) -> tuple[str, bytes]:
    request = telemetry_pb2.UploadRequest(spool_id=f"{device:032x}")
    template = window(rng, int(1000 * _NOW))
    for number in range(1, WINDOWS + 1):
        sequence = turn * WINDOWS + number
        record = request.records.add(sequence=sequence, recorded_ms=int(1000 * _NOW))
        record.window.CopyFrom(template)
        record.window.window_id = f"{device:016x}{sequence:016x}"
    return f"dev-{device:04}", request.SerializeToString()


def _bare(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(
        "CREATE TABLE windows (device TEXT, sequence INTEGER, payload BLOB,"
        " PRIMARY KEY (device, sequence))"
    )
    return database


def _write_bare(database: sqlite3.Connection, uploads: list[tuple[str, bytes]], turn: int) -> float:
    """Seconds for the same bytes, a transaction an upload."""
    size = max(len(request) for _, request in uploads) // WINDOWS
    began = time.perf_counter()
    for device, request in uploads:
        database.execute("BEGIN IMMEDIATE")
        database.executemany(
            "INSERT INTO windows VALUES (?, ?, ?)",
            [
                (device, turn * WINDOWS + number, request[number * size : (number + 1) * size])
                for number in range(WINDOWS)
            ],
        )
        database.execute("COMMIT")
    return time.perf_counter() - began
