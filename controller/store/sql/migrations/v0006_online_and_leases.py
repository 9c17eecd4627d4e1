"""How long each device has been online, which deadlines count, and which controller may act."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the counters and the leases. What was online before counts for nothing."""
    for name in ("connected_since", "online_seconds"):
        op.add_column("devices", sa.Column(name, sa.Double(), nullable=False, server_default="0"))
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
