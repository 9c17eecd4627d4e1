"""The tables of federated runs; see ``tables`` for what holds of all.

Flower's ids are uint64, which no column holds: they stand as twenty digits.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from controller.store.sql.tables import metadata

runs: Final = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("incident", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Column("arrays_sha256", Text, nullable=False),
    Column("candidate", Integer),
    Column("error", Text, nullable=False),
)

tasks: Final = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("message", LargeBinary, nullable=False),
    Column("arrays", JSON, nullable=False),
    Column("encoding", Text, nullable=False),
    Column("posted_ms", BigInteger, nullable=False),
    Column("deadline_ms", BigInteger, nullable=False),
    Column("reply_bytes", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("reply_sha256", Text, nullable=False),
    Column("reply_length", BigInteger, nullable=False),
    Column("replied_ms", BigInteger, nullable=False),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "run", "step", "node", unique=True),
    Index(None, "device", "state"),
    Index(None, "run", "state"),
    Index(None, "state"),
)

phases: Final = Table(
    "phases",
    metadata,
    Column("run", Text, primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("round", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("eligible", Integer, nullable=False),
    Column("selected", Integer, nullable=False),
    Column("admitted", Integer, nullable=False),
    Column("declined", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("surplus", Integer, nullable=False),
    Column("silent", Integer, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("bytes_down", BigInteger, nullable=False),
    Column("bytes_up", BigInteger, nullable=False),
    Column("began_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Column("why", Text, nullable=False),
    Column("late", Integer, nullable=False),
)

checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("run", Text, primary_key=True),
    Column("step", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("arrays_sha256", Text, nullable=False),
    Column("state_sha256", Text, nullable=False),
)

run_blobs: Final = Table(
    "run_blobs",
    metadata,
    Column("run", Text, primary_key=True),
    Column("sha256", Text, primary_key=True),
    Column("put_ms", BigInteger, nullable=False),
)

orders: Final = Table(
    "orders",
    metadata,
    Column("device", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Index(None, "revision"),
)

readiness: Final = Table(
    "readiness",
    metadata,
    Column("device", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("eligible", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("examples", BigInteger, nullable=False),
    Column("held_out", BigInteger, nullable=False),
    Column("told_ms", BigInteger, nullable=False),
    Index(None, "model"),
)
