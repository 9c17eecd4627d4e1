"""How much each window was asked, beside its verdict: metrics read no payloads."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the counts of requests. Windows that are stored already count for none."""
    for name in ("requests", "failed", "refused"):
        op.add_column(
            "windows", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        )
