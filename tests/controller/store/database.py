"""A database in a folder, and rows for it."""

from pathlib import Path

from controller.enrolment.token import JoinToken
from controller.fleet.device import Device
from controller.store.sql import SqlStore

TOKEN = JoinToken("t1", "s" * 64, 1.0, 2.0, "ada", {"site": "berlin"})
DEVICE = Device("dev-1", 1.0, b"pem", "ff", 2.0)


def opened(folder: Path) -> SqlStore:
    return SqlStore.open(f"sqlite:///{folder}/muster.db")
