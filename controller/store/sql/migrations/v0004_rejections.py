"""How many bad records of a device the audit chain has not been told of."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds what bounds the audit records that one device can cause."""
    op.create_table(
        "rejections",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("audited_ms", sa.BigInteger(), nullable=False),
        sa.Column("untold", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "action", name="pk_rejections"),
    )
