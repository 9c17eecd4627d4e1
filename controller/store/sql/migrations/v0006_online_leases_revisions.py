"""How long each device has been online, which controller may act, and when devices changed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the counters and the leases.

    What was online before counts for nothing. Devices that are there already have changed once.
    """
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
    op.add_column(
        "devices", sa.Column("revision", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.execute("UPDATE devices SET revision = 1")
    op.create_index("ix_devices_revision", "devices", ["revision"])
