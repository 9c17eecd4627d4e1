"""Every table, once, for SQLite and PostgreSQL alike.

A column bears the name of the field that it keeps. What changes here needs a migration beside it
(``migrations/``); a test compares the two.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

devices: Final = Table(
    "devices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("enrolled_at", Double, nullable=False),
    Column("public_key_pem", LargeBinary, nullable=False),
    Column("certificate_serial", Text, nullable=False),
    Column("certificate_expires", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("connected", Boolean, nullable=False),
    Column("connected_since", Double, nullable=False, server_default="0"),
    Column("online_seconds", Double, nullable=False, server_default="0"),
)

leases: Final = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("taken_at", Double, nullable=False),
    Column("until", Double, nullable=False),
)

slots: Final = Table(
    "slots",
    metadata,
    Column("device", Text, ForeignKey("devices.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("running", Boolean, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("model_sha256", Text, nullable=False),
    Column("approvals", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("reported_at", Double, nullable=False),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("soaked", Integer, nullable=False),
)

tokens: Final = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret_sha256", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("used_at", Double, nullable=False),
    Column("used_by", Text, nullable=False),
)

operators: Final = Table(
    "operators",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Integer, nullable=False),
    Column("token_sha256", Text, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double, nullable=False),
)

models: Final = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("threshold", Integer, nullable=False),
    Column("approvers", JSON, nullable=False),
    Column("description", Text, nullable=False),
)

versions: Final = Table(
    "versions",
    metadata,
    Column("model", Text, ForeignKey("models.name"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("registered_at", Double, nullable=False),
    Column("registered_by", Text, nullable=False),
    Column("reasons", JSON, nullable=False),
)

pending: Final = Table(
    "pending",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("change", Text, nullable=False),
    Column("metadata", LargeBinary, nullable=False),
    Column("proposed_at", Double, nullable=False),
    Column("proposed_by", Text, nullable=False),
    Column("signed_by", JSON, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

aliases: Final = Table(
    "aliases",
    metadata,
    Column("model", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

image_metadata: Final = Table(
    "image_metadata",
    metadata,
    Column("role", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("metadata", LargeBinary, nullable=False),
)

rollouts: Final = Table(
    "rollouts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("selector", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("slot", Text, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("policy", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("fleet", Text, nullable=False),
)

stages: Final = Table(
    "stages",
    metadata,
    Column("rollout", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("passed_at", Double, nullable=False),
    Column("approved_by", Text, nullable=False),
    Column("accepted_failed", Integer, nullable=False),
    Column("accepted_unreachable", Integer, nullable=False),
    Column("broken_gates", JSON, nullable=False),
    Column("accepted_gates", JSON, nullable=False),
    Column("reason", Text, nullable=False),
)

members: Final = Table(
    "members",
    metadata,
    Column("rollout", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("stage", Integer, nullable=False),
    Column("released_at", Double, nullable=False),
    Column("online_at", Double, nullable=False),
    Column("before", Integer, nullable=False),
    Column("proven_at", Double, nullable=False),
    Column("reverted", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("deferred_at", Double),
    Index(None, "device"),
)

changes: Final = Table(
    "changes",
    metadata,
    Column("device", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Index(None, "revision"),
)

standings: Final = Table(
    "standings",
    metadata,
    Column("rollout", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("doing", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("soaks_until", Double, nullable=False),
)

wanted: Final = Table(
    "wanted",
    metadata,
    Column("device", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("rollout", Text, nullable=False),
    Column("assigned_at", Double, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("soak_seconds", Integer, nullable=False),
)

directives: Final = Table(
    "directives",
    metadata,
    Column("device", Text, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("issued_at", Double, nullable=False),
)

fleets: Final = Table(
    "fleets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("applied_at", Double, nullable=False),
    Column("applied_by", Text, nullable=False),
)

cursors: Final = Table(
    "cursors",
    metadata,
    Column("device", Text, primary_key=True),
    Column("spool", Text, primary_key=True),
    Column("through", BigInteger, nullable=False),
)

dropped: Final = Table(
    "dropped",
    metadata,
    Column("device", Text, primary_key=True),
    Column("spool", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

windows: Final = Table(
    "windows",
    metadata,
    Column("device", Text, primary_key=True),
    Column("spool", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("profile_sha256", Text, nullable=False),
    Column("window_id", Text, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("verdict", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("requests", BigInteger, nullable=False, server_default="0"),
    Column("failed", BigInteger, nullable=False, server_default="0"),
    Column("refused", BigInteger, nullable=False, server_default="0"),
    Index(None, "device", "window_id", unique=True),
    Index(None, "model", "version", "device", "ended_ms"),
    Index(None, "ended_ms"),
)

estimators: Final = Table(
    "estimators",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("profile_sha256", Text, nullable=False),
    Column("index", Integer, nullable=False),
    Column("series", Integer, nullable=False),
    Column("centre", Double, nullable=False),
    Column("unit", Double, nullable=False),
    Column("right", JSON, nullable=False),
)

totals: Final = Table(
    "totals",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("device", Text, primary_key=True),
    Column("ended_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("sums", JSON, nullable=False),
    Index(None, "ended_ms"),
    sqlite_with_rowid=False,  # rows of one device stand together, and are found by the key alone
)

events: Final = Table(
    "events",
    metadata,
    Column("device", Text, primary_key=True),
    Column("spool", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("recorded_ms", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("fields", JSON, nullable=False),
    Index(None, "device", "recorded_ms"),
    Index(None, "recorded_ms"),
)

resources: Final = Table(
    "resources",
    metadata,
    Column("device", Text, primary_key=True),
    Column("spool", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("recorded_ms", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index(None, "device", "recorded_ms"),
    Index(None, "recorded_ms"),
)

rejections: Final = Table(
    "rejections",
    metadata,
    Column("device", Text, primary_key=True),
    Column("action", Text, primary_key=True),
    Column("audited_ms", BigInteger, nullable=False),
    Column("untold", BigInteger, nullable=False),
)

reports: Final = Table(
    "reports",
    metadata,
    Column("device", Text, primary_key=True),
    Column("counter", BigInteger, primary_key=True, autoincrement=False),
    Column("generation", BigInteger, nullable=False),
    Column("reported_at", BigInteger, nullable=False),
    Column("received_at", Double, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

audit: Final = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
)
