"""Devices say themselves how long a version has answered, as they are asked to."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Adds the columns. The next plan asks the devices of stages that are open."""
    for table, column in (("slots", "soaked"), ("wanted", "soak_seconds")):
        op.add_column(table, sa.Column(column, sa.Integer(), nullable=False, server_default="0"))
