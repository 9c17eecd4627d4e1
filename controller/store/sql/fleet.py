"""Devices, join tokens and operators in the database."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import bindparam, case, delete, insert, select, update

from controller.access.operator import Operator, Role
from controller.enrolment.token import JoinToken
from controller.errors import Conflict
from controller.fleet.device import Device, DeviceStatus, SlotState
from controller.fleet.presence import seen, stays
from controller.store.sql import tables
from controller.store.sql.noted import Noted
from controller.store.sql.session import Row, Session, columns

_DEVICES: Final = tables.devices.c
DEVICE_FIELDS: Final = [_DEVICES[field.name] for field in fields(Device)]
SLOTS_IN_ORDER: Final = (
    tables.slots.c.device,
    tables.slots.c.model,
    tables.slots.c.slot,
    tables.slots.c.running.desc(),
)
_STATUS: Final = [column.name for column in DEVICE_FIELDS].index("status")
_ALL: Final = select(*DEVICE_FIELDS).order_by(_DEVICES.id)
# Every upload asks these.
_DEVICE: Final = select(*DEVICE_FIELDS).where(_DEVICES.id == bindparam("of"))
_TOUCH: Final = (
    update(tables.devices)
    .where(tables.devices.c.id == bindparam("of"))
    .values(
        last_seen=bindparam("seen"),
        connected=bindparam("linked"),
        connected_since=bindparam("since"),
        online_seconds=bindparam("online"),
    )
)
_COUNTED: Final = (_DEVICES.connected_since > 0) & (_DEVICES.last_seen > _DEVICES.connected_since)
_DISCONNECT: Final = (
    update(tables.devices)
    .where(_DEVICES.connected)
    .values(  # as controller.fleet.presence.seen, of the whole fleet at once
        connected=False,
        connected_since=0.0,
        online_seconds=_DEVICES.online_seconds
        + case((_COUNTED, _DEVICES.last_seen - _DEVICES.connected_since), else_=0.0),
    )
)


class SqlDevices:
    """``controller.store.store.Devices``."""

    def __init__(self, session: Session, noted: Noted) -> None:
        self._session = session
        self._noted = noted

    def get(self, device: str) -> Device | None:  # noqa: D102 - see the Protocol
        row = self._session.run(_DEVICE, {"of": device}).first()
        return None if row is None else device_of(row)

    def all(self) -> Sequence[Device]:  # noqa: D102
        return [device_of(row) for row in self._session.run(_ALL)]

    def put(self, device: Device) -> None:  # noqa: D102
        self._session.put(tables.devices, columns(device))
        self._noted.note([device.id])

    def touch(self, device: str, last_seen: float, *, connected: bool) -> None:  # noqa: D102
        known = self.get(device)
        if known is not None:
            noted = seen(known, last_seen, connected=connected)
            row = {
                "of": device,
                "seen": noted.last_seen,
                "linked": noted.connected,
                "since": noted.connected_since,
                "online": noted.online_seconds,
            }
            self._session.run(_TOUCH, row)
            if not stays(known, noted):
                self._noted.note([device])

    def disconnect_all(self, spare: Collection[str] = ()) -> None:  # noqa: D102
        linked = self._session.all(select(_DEVICES.id).where(_DEVICES.connected))
        gone = [{"of": row["id"]} for row in linked if row["id"] not in spare]
        if len(gone) == len(linked):
            self._session.run(_DISCONNECT)
        elif gone:
            self._session.run(_DISCONNECT.where(_DEVICES.id == bindparam("of")), gone)
        self._noted.note(row["of"] for row in gone)

    def slots(self, device: str | None = None) -> Sequence[SlotState]:  # noqa: D102
        query = select(tables.slots).order_by(*SLOTS_IN_ORDER)
        if device is not None:
            query = query.where(tables.slots.c.device == device)
        return [SlotState(**row) for row in self._session.all(query)]

    def replace_slots(self, device: str, slots: Iterable[SlotState]) -> None:  # noqa: D102
        rows = [columns(slot) for slot in slots]
        if any(row["device"] != device for row in rows):
            raise Conflict(f"slots of another device among those of {device!r}")
        self._session.run(delete(tables.slots).where(tables.slots.c.device == device))
        if rows:
            self._session.run(insert(tables.slots), rows)
        self._noted.note([device])


def device_of(row: Iterable[Any]) -> Device:
    """The device of a row of ``DEVICE_FIELDS``."""
    # By position, and not by name: a fleet of 100,000 is read in half of the time.
    values = list(row)
    values[_STATUS] = DeviceStatus(values[_STATUS])
    return Device(*values)


class SqlTokens:
    """``controller.store.store.Tokens``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, token: str) -> JoinToken | None:  # noqa: D102
        row = self._session.first(select(tables.tokens).where(tables.tokens.c.id == token))
        return None if row is None else JoinToken(**row)

    def all(self) -> Sequence[JoinToken]:  # noqa: D102
        table = tables.tokens
        rows = self._session.all(select(table).order_by(table.c.created_at, table.c.id))
        return [JoinToken(**row) for row in rows]

    def put(self, token: JoinToken) -> None:  # noqa: D102
        self._session.put(tables.tokens, columns(token))


class SqlOperators:
    """``controller.store.store.Operators``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def by_token(self, token_sha256: str) -> Operator | None:  # noqa: D102
        table = tables.operators
        row = self._session.first(select(table).where(table.c.token_sha256 == token_sha256))
        return None if row is None else _operator(row)

    def get(self, name: str) -> Operator | None:  # noqa: D102
        row = self._session.first(select(tables.operators).where(tables.operators.c.name == name))
        return None if row is None else _operator(row)

    def all(self) -> Sequence[Operator]:  # noqa: D102
        rows = self._session.all(select(tables.operators).order_by(tables.operators.c.name))
        return [_operator(row) for row in rows]

    def put(self, operator: Operator) -> None:  # noqa: D102
        self._session.put(tables.operators, columns(operator))


def _operator(row: Row) -> Operator:
    return Operator(**{**row, "role": Role(row["role"])})
