"""Finds each device's newest windows of a version, however many there are."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Puts an index by device in the place of the one by time alone."""
    op.drop_index("ix_windows_model_ended_ms", "windows")
    op.create_index(
        "ix_windows_model_version_device_ended_ms",
        "windows",
        ["model", "version", "device", "ended_ms"],
    )
