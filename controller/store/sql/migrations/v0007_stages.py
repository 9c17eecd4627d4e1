"""Rollouts go in stages: their policy, what became of each stage, and whom they have released."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

AT_ONCE = '{"stages":[{"name":"all","percent":100.0,"soak_seconds":0.0}]}'
"""What rollouts were held to before there were stages."""


def upgrade() -> None:
    """Adds stages and members. Rollouts from before released everybody at once.

    Those that ran, or had succeeded and serve devices that match later, go on and release their
    devices anew, which have what they want already. One that had failed ends as aborted.
    """
    for name, default in (("policy", AT_ONCE), ("reason", ""), ("fleet", "")):
        column = sa.Column(name, sa.Text(), nullable=False, server_default=default)
        op.add_column("rollouts", column)
    op.execute("UPDATE rollouts SET state = 'aborted' WHERE state = 'failed'")
    op.add_column("standings", sa.Column("stage", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "standings", sa.Column("soaks_until", sa.Double(), nullable=False, server_default="0")
    )
    op.add_column("wanted", sa.Column("attempt", sa.Integer(), nullable=False, server_default="1"))
    _create_stages()
    _create_members()


def _create_stages() -> None:
    op.create_table(
        "stages",
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("passed_at", sa.Double(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("accepted_failed", sa.Integer(), nullable=False),
        sa.Column("accepted_unreachable", sa.Integer(), nullable=False),
        sa.Column("broken_gates", sa.JSON(), nullable=False),
        sa.Column("accepted_gates", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "number", name="pk_stages"),
    )


def _create_members() -> None:
    op.create_table(
        "members",
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("released_at", sa.Double(), nullable=False),
        sa.Column("online_at", sa.Double(), nullable=False),
        sa.Column("before", sa.Integer(), nullable=False),
        sa.Column("proven_at", sa.Double(), nullable=False),
        sa.Column("reverted", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "device", name="pk_members"),
    )
