"""Which devices plans must look at again."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Adds the table. All devices that anything is known of have changed once.

    It tells what revisions of devices told, too.
    """
    op.create_table(
        "changes",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", name="pk_changes"),
    )
    op.create_index("ix_changes_revision", "changes", ["revision"])
    op.create_index("ix_members_device", "members", ["device"])
    op.drop_index("ix_devices_revision", "devices")
    op.drop_column("devices", "revision")
    op.execute(
        "INSERT INTO changes (device, revision) "
        "SELECT id, 1 FROM devices UNION SELECT device, 1 FROM wanted "
        "UNION SELECT device, 1 FROM members"
    )
