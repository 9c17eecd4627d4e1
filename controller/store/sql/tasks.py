"""What devices are asked in federated runs, in the database."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Final

from sqlalchemy import bindparam, delete, func, select

from controller.federated.readiness import DeviceReadiness, Orders, Standing
from controller.federated.task import (
    OPEN,
    UNSETTLED,
    ArraysReference,
    Encoding,
    Phase,
    Task,
    TaskState,
)
from controller.store.sql import federated_tables as tables
from controller.store.sql.fleet import DEVICE_FIELDS, device_of
from controller.store.sql.noted import REVISION, Noted
from controller.store.sql.runs import digits
from controller.store.sql.session import Row, Session, columns
from controller.store.sql.tables import changes
from controller.store.sql.tables import devices as fleet

_TASKS: Final = tables.tasks.c
_OPEN: Final = _TASKS.state.in_([state.value for state in OPEN])
# In no order: to have one, SQLite would rather read all tasks than those few.
_UNSETTLED: Final = select(tables.tasks).where(
    _TASKS.state.in_([state.value for state in UNSETTLED])
)
_UNSETTLED_OF: Final = _UNSETTLED.where(_TASKS.run == bindparam("of"))
# A coordinator that waits asks this five times a second.
_REPLIED: Final = select(func.count()).where(
    _TASKS.state == TaskState.REPLIED.value, _TASKS.run == bindparam("of")
)
# Every link that comes up asks this, and every piece of a reply the next.
_NEWEST: Final = (
    select(tables.tasks)
    .where(_OPEN, _TASKS.device == bindparam("of"))
    .order_by(_TASKS.posted_ms.desc(), _TASKS.step.desc(), _TASKS.run.desc())
    .limit(1)
)
_ONE: Final = select(tables.tasks).where(_TASKS.id == bindparam("of"))
_REVISION: Final = select(func.max(tables.orders.c.revision))
# A coordinator that waits for devices asks these again and again.
_CHANGED: Final = changes.c.revision > bindparam("known")
_IDS: Final = select(changes.c.device).where(_CHANGED)
_SAID: Final = tables.readiness.c
# Not by the model's index: SQLite would rather read all that is said of it than what has changed.
_OF_MODEL: Final = (_SAID.model + "") == bindparam("of")
_TOLD_FIELDS: Final = [_SAID[field.name] for field in fields(DeviceReadiness)]
_TOLD: Final = (
    select(*_TOLD_FIELDS).join(changes, changes.c.device == _SAID.device).where(_CHANGED, _OF_MODEL)
)
_TELLING: Final = (
    select(*DEVICE_FIELDS)
    .join(changes, changes.c.device == fleet.c.id)
    .join(tables.readiness, _SAID.device == fleet.c.id)
    .where(_CHANGED, _OF_MODEL)
)
_BUSY: Final = select(_TASKS.device).where(_OPEN, _TASKS.run != bindparam("of")).distinct()


class SqlTasks:
    """``controller.store.federated_tables.Tasks``."""

    def __init__(self, session: Session, noted: Noted) -> None:
        self._session = session
        self._noted = noted

    def get(self, task: str) -> Task | None:  # noqa: D102 - see the Protocol
        row = self._session.first(_ONE, {"of": task})
        return None if row is None else _task(row)

    def of_run(self, run: str, step: int | None = None) -> Sequence[Task]:  # noqa: D102
        query = select(tables.tasks).where(_TASKS.run == run)
        if step is not None:
            query = query.where(_TASKS.step == step)
        rows = self._session.all(query.order_by(_TASKS.step, _TASKS.node))
        return [_task(row) for row in rows]

    def unsettled(self, run: str | None = None) -> Sequence[Task]:  # noqa: D102
        rows = self._session.all(_UNSETTLED if run is None else _UNSETTLED_OF, {"of": run})
        return [_task(row) for row in sorted(rows, key=_place)]

    def newest_open(self, device: str) -> Task | None:  # noqa: D102
        row = self._session.first(_NEWEST, {"of": device})
        return None if row is None else _task(row)

    def add(self, tasks: Iterable[Task]) -> None:  # noqa: D102
        new = list(tasks)
        self._session.add(tables.tasks, [_row(one) for one in new])
        _note_orders(self._session, {one.device for one in new})

    def put(self, task: Task) -> None:  # noqa: D102
        self._session.put(tables.tasks, _row(task))
        if task.state is TaskState.SILENT:
            _note_orders(self._session, {task.device})

    def counts(self, run: str, step: int | None = None) -> Mapping[TaskState, int]:  # noqa: D102
        query = select(_TASKS.state, func.count().label("many")).where(_TASKS.run == run)
        if step is not None:
            query = query.where(_TASKS.step == step)
        rows = self._session.all(query.group_by(_TASKS.state).order_by(_TASKS.state))
        return {TaskState(row["state"]): row["many"] for row in rows}

    def replied(self, run: str) -> int:  # noqa: D102
        return int(self._session.value(_REPLIED, {"of": run}) or 0)

    def orders_since(self, revision: int) -> Orders:  # noqa: D102
        table = tables.orders.c
        query = select(table.device).where(table.revision > revision).order_by(table.device)
        devices = tuple(row[0] for row in self._session.run(query))
        return Orders(devices, int(self._session.value(_REVISION) or 0))

    def asked(self, device: str) -> bool:  # noqa: D102
        table = tables.orders.c
        return self._session.value(select(table.device).where(table.device == device)) is not None

    def remove(self, run: str, most: int) -> int:  # noqa: D102
        some = select(_TASKS.id).where(_TASKS.run == run).limit(most)
        return self._session.run(delete(tables.tasks).where(_TASKS.id.in_(some))).rowcount

    def readiness(self, model: str) -> Sequence[DeviceReadiness]:  # noqa: D102
        table = tables.readiness
        query = select(table).where(table.c.model == model).order_by(table.c.device)
        return [DeviceReadiness(**row) for row in self._session.all(query)]

    def replace_readiness(self, device: str, told: Iterable[DeviceReadiness]) -> None:  # noqa: D102
        table = tables.readiness
        self._session.run(delete(table).where(table.c.device == device))
        self._session.put_all(table, [columns(one) for one in told])
        self._noted.note([device])

    def standing(self, model: str, revision: int) -> Standing:  # noqa: D102
        asked, run = {"known": revision, "of": model}, self._session.run
        return Standing(
            [row[0] for row in run(_IDS, asked)],
            [device_of(row) for row in run(_TELLING, asked)],
            [DeviceReadiness(**row) for row in self._session.all(_TOLD, asked)],
            int(self._session.value(REVISION) or 0),
        )

    def busy(self, besides: str) -> Collection[str]:  # noqa: D102
        return {row[0] for row in self._session.run(_BUSY, {"of": besides})}


def _note_orders(session: Session, devices: Iterable[str]) -> None:
    revision = 1 + int(session.value(_REVISION) or 0)
    rows = [{"device": device, "revision": revision} for device in sorted(devices)]
    session.put_all(tables.orders, rows)


def _place(row: Row) -> tuple[str, int, str]:
    return row["run"], row["step"], row["node"]


def _row(task: Task) -> Row:
    return {
        **columns(task),
        "node": digits(task.node),
        "phase": task.phase.value,
        "arrays": [columns(one) for one in task.arrays],
        "encoding": task.encoding.value,
        "state": task.state.value,
    }


def _task(row: Row) -> Task:
    told = {
        "node": int(row["node"]),
        "phase": Phase(row["phase"]),
        "arrays": tuple(ArraysReference(**one) for one in row["arrays"]),
        "encoding": Encoding(row["encoding"]),
        "state": TaskState(row["state"]),
    }
    return Task(**{**row, **told})
