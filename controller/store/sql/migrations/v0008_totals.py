"""What devices have told of each version in all, for gates; and how versions' confidence is read."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the tables. Windows and versions that are stored already count for nothing."""
    op.create_table(
        "estimators",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("profile_sha256", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("centre", sa.Double(), nullable=False),
        sa.Column("unit", sa.Double(), nullable=False),
        sa.Column("right", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name="pk_estimators"),
    )
    op.create_table(
        "totals",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("sums", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", "device", "ended_ms", name="pk_totals"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_totals_ended_ms", "totals", ["ended_ms"])
