"""How long each device has been online: deadlines of rollouts count that."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the counters. What was online before counts for nothing."""
    for name in ("connected_since", "online_seconds"):
        op.add_column("devices", sa.Column(name, sa.Double(), nullable=False, server_default="0"))
