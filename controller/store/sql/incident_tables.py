"""The tables of incidents; see ``tables`` for what holds of all."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text

from controller.store.sql.tables import metadata

incidents: Final = Table(
    "incidents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Column("run", Text, nullable=False),
    Column("candidate", Integer),
    Column("rollout", Text, nullable=False),
    Column("closed_by", Text, nullable=False),
    Index(None, "model"),
)

stories: Final = Table(
    "stories",
    metadata,
    Column("incident", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("told", Integer, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("sentence", Text, nullable=False),
)
