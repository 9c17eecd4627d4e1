"""Which devices have changed, in the database."""

from typing import Any, Final

from sqlalchemy import Select, Table, bindparam, select

from controller.fleet.device import SlotState
from controller.rollout.rollout import Member, Wanted
from controller.store.rollout_tables import Changed
from controller.store.sql import tables
from controller.store.sql.fleet import DEVICE_FIELDS, device_of
from controller.store.sql.noted import REVISION
from controller.store.sql.session import Session

_CHANGED: Final = tables.changes.c.revision > bindparam("known")
_IDS: Final = select(tables.changes.c.device).where(_CHANGED)


def _of_changed(query: Select[Any], table: Table, device: str = "device") -> Select[Any]:
    return query.join(tables.changes, tables.changes.c.device == table.c[device]).where(_CHANGED)


_DEVICES: Final = _of_changed(select(*DEVICE_FIELDS), tables.devices, "id")
_WANTED: Final = _of_changed(select(tables.wanted), tables.wanted)
# In no order: to have one, SQLite would rather read all slots than those of a few devices.
_SLOTS: Final = _of_changed(select(tables.slots), tables.slots)
_MEMBERS: Final = _of_changed(select(tables.members), tables.members)


class SqlChanges:
    """``controller.store.store.Changes``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def since(self, revision: int) -> Changed:  # noqa: D102 - see the Protocol
        run, rows = self._session.run, self._session.all
        known = {"known": revision}
        return Changed(
            [row[0] for row in run(_IDS, known)],
            int(self._session.value(REVISION) or 0),
            [device_of(row) for row in run(_DEVICES, known)],
            [Wanted(**row) for row in rows(_WANTED, known)],
            sorted((SlotState(**row) for row in rows(_SLOTS, known)), key=_place),
            [Member(**row) for row in rows(_MEMBERS, known)],
        )


def _place(slot: SlotState) -> tuple[str, str, str, bool]:
    return (slot.device, slot.model, slot.slot, not slot.running)
