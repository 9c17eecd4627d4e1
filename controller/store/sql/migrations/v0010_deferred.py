"""Time that a device waits on purpose is taken from its deadline no more."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Adds the column. Who waits now is noted from the next plan on."""
    op.add_column("members", sa.Column("deferred_at", sa.Double(), nullable=True))
