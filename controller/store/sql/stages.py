"""Stages and their members in the database."""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select

from controller.rollout.rollout import Member, StageRecord, StageState
from controller.store.sql import tables
from controller.store.sql.noted import Noted
from controller.store.sql.session import Row, Session, columns


class SqlStages:
    """``controller.store.store.Stages``."""

    def __init__(self, session: Session, noted: Noted) -> None:
        self._session = session
        self._noted = noted

    def all(self, rollout: str | None = None) -> Sequence[StageRecord]:  # noqa: D102
        table = tables.stages
        query = select(table).order_by(table.c.rollout, table.c.number)
        if rollout is not None:
            query = query.where(table.c.rollout == rollout)
        return [_stage(row) for row in self._session.all(query)]

    def put(self, stages: Iterable[StageRecord]) -> None:  # noqa: D102
        for one in stages:
            gates = {"broken_gates": list(one.broken_gates)}
            gates["accepted_gates"] = list(one.accepted_gates)
            self._session.put(tables.stages, {**columns(one), **gates})

    def members(self, rollout: str | None = None) -> Sequence[Member]:  # noqa: D102
        table = tables.members
        query = select(table).order_by(table.c.rollout, table.c.device)
        if rollout is not None:
            query = query.where(table.c.rollout == rollout)
        return [Member(**row) for row in self._session.all(query)]

    def put_members(self, members: Iterable[Member]) -> None:  # noqa: D102
        rows = [columns(one) for one in members]
        self._session.put_all(tables.members, rows)
        self._noted.note(row["device"] for row in rows)

    def remove_members(self, rollout: str) -> None:  # noqa: D102
        table = tables.members
        mine = self._session.run(select(table.c.device).where(table.c.rollout == rollout))
        self._noted.note([row[0] for row in mine])
        self._session.run(delete(table).where(table.c.rollout == rollout))


def _stage(row: Row) -> StageRecord:
    gates = {name: tuple(row[name]) for name in ("broken_gates", "accepted_gates")}
    return StageRecord(**{**row, **gates, "state": StageState(row["state"])})
