"""What shall run, what does run, and what is being tried, in SQLite."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.errors import StaleDirective
from agent.install.record import Install, Slot
from agent.store.database import SharedDatabase
from agent.store.device_store import Quarantine
from agent.store.records import from_text, to_text

_PLACE = ("model", "slot")


class SqliteInstallStore:
    """See ``InstallStore``."""

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database

    def directive(self) -> bytes:
        """The newest accepted directive's envelope; empty if there was none."""
        with self._database.turn() as db:
            row = db.execute("SELECT envelope FROM directive WHERE id = 1").fetchone()
        return bytes(row[0]) if row else b""

    def generation(self) -> int:
        """The highest generation accepted; 0 if there was none."""
        with self._database.turn() as db:
            row = db.execute("SELECT generation FROM directive WHERE id = 1").fetchone()
        return int(row[0]) if row else 0

    def save_directive(self, envelope: bytes, generation: int) -> None:
        """Replaces the directive.

        Raises:
            StaleDirective: of a lower generation than the one that is there.
        """
        with self._database.turn() as db, db.atomic():
            known = self.generation()
            if generation < known:
                raise StaleDirective(f"generation {generation}; {known} was accepted before")
            record = {"id": 1, "generation": generation, "envelope": envelope}
            db.table("directive").upsert(record, pk="id")

    def forget_directive(self) -> None:
        """There was none."""
        with self._database.turn() as db, db.atomic():
            db.execute("DELETE FROM directive")

    def slots(self) -> Sequence[Slot]:
        """Every slot that points at something."""
        with self._database.turn() as db:
            rows = db.execute("SELECT record FROM slots ORDER BY model, slot").fetchall()
        return [from_text(record, Slot) for (record,) in rows]

    def save_slot(self, slot: Slot) -> None:
        """Replaces the slot of that model and name."""
        record = {"model": slot.model, "slot": slot.name, "record": to_text(slot)}
        with self._database.turn() as db:
            db.table("slots").upsert(record, pk=_PLACE)

    def remove_slot(self, model: str, name: str) -> None:
        """Forgets the slot."""
        with self._database.turn() as db:
            db.table("slots").delete_where("model = ? AND slot = ?", [model, name])

    def installs(self) -> Sequence[Install]:
        """The newest install of every slot."""
        with self._database.turn() as db:
            rows = db.execute("SELECT record FROM installs ORDER BY model, slot").fetchall()
        return [from_text(record, Install) for (record,) in rows]

    def save_install(self, install: Install) -> None:
        """Replaces the install of that model and slot."""
        record = {"model": install.model, "slot": install.slot, "record": to_text(install)}
        with self._database.turn() as db:
            db.table("installs").upsert(record, pk=_PLACE)

    def remove_install(self, model: str, slot: str) -> None:
        """Forgets the install."""
        with self._database.turn() as db:
            db.table("installs").delete_where("model = ? AND slot = ?", [model, slot])

    def quarantine(self, failed: Quarantine) -> None:
        """Remembers that this version failed here; keeps what it knows if that refuses the attempt."""
        record = asdict(failed)
        record["sha256"] = record.pop("manifest_sha256")
        with self._database.turn() as db, db.atomic():
            known = self.quarantined(failed.manifest_sha256)
            if known is None or not known.refuses(failed.rollout, failed.attempt):
                db.table("quarantine").upsert(record, pk="sha256")

    def quarantines(self) -> Sequence[Quarantine]:
        """Every version that failed here, the oldest failure first."""
        query = "SELECT * FROM quarantine ORDER BY at, sha256"
        with self._database.turn() as db:
            return [_quarantine(row) for row in db.query(query)]

    def quarantined(self, manifest_sha256: str) -> Quarantine | None:
        """Why this version failed here, or None."""
        query = "SELECT * FROM quarantine WHERE sha256 = ?"
        with self._database.turn() as db:
            return next(map(_quarantine, db.query(query, [manifest_sha256])), None)

    def lift_quarantine(self, manifest_sha256: str) -> None:
        """Lets the version be tried again."""
        with self._database.turn() as db:
            db.table("quarantine").delete_where("sha256 = ?", [manifest_sha256])


def _quarantine(row: Mapping[str, Any]) -> Quarantine:
    """Who only looks may find the tables of an older agent, which still runs."""
    return Quarantine(
        manifest_sha256=row["sha256"],
        model=row.get("model", ""),
        version=row.get("version", 0),
        code=row["code"],
        detail=row["detail"],
        at=row["at"],
        rollout=row.get("rollout", ""),
        attempt=row.get("attempt", 1),
    )
