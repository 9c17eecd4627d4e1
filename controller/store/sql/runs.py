"""Federated runs in the database."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Final

from sqlalchemy import delete, select, update

from controller.federated.exchange import PhaseRecord
from controller.federated.readiness import RunBlob, StoredCheckpoint
from controller.federated.run import Run, RunState
from controller.federated.task import OPEN, ArraysReference, Phase
from controller.store.sql import federated_tables as tables
from controller.store.sql.session import Row, Session, columns

# All devices of a phase have the same: one row, and not one for each of them.
_WANTED: Final = (
    select(tables.tasks.c.arrays)
    .where(tables.tasks.c.state.in_([state.value for state in OPEN]))
    .distinct()
)


class SqlRuns:
    """``controller.store.federated_tables.Runs``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, run: str) -> Run | None:  # noqa: D102 - see the Protocol
        row = self._session.first(select(tables.runs).where(tables.runs.c.id == run))
        return None if row is None else _run(row)

    def all(self, model: str | None = None) -> Sequence[Run]:  # noqa: D102
        table = tables.runs.c
        query = select(tables.runs).order_by(table.created_ms.desc(), table.id.desc())
        if model is not None:
            query = query.where(table.model == model)
        return [_run(row) for row in self._session.all(query)]

    def at_work(self) -> Sequence[Run]:  # noqa: D102
        table = tables.runs.c
        states = [RunState.RUNNING.value, RunState.STOPPING.value]
        query = select(tables.runs).where(table.state.in_(states))
        rows = self._session.all(query.order_by(table.created_ms, table.id))
        return [_run(row) for row in rows]

    def put(self, run: Run) -> None:  # noqa: D102
        row = {**columns(run), "number": digits(run.number), "state": run.state.value}
        self._session.put(tables.runs, {**row, "reasons": list(run.reasons)})

    def phases(self, run: str) -> Sequence[PhaseRecord]:  # noqa: D102
        table = tables.phases
        query = select(table).where(table.c.run == run).order_by(table.c.step)
        return [_phase(row) for row in self._session.all(query)]

    def newest_phases(self, run: str, most: int) -> Sequence[PhaseRecord]:  # noqa: D102
        table = tables.phases
        kept = [one for one in table.c if one is not table.c.metrics]
        query = select(*kept).where(table.c.run == run).order_by(table.c.step.desc()).limit(most)
        return [_phase({**row, "metrics": {}}) for row in reversed(self._session.all(query))]

    def add_phase(self, run: str, record: PhaseRecord) -> bool:  # noqa: D102
        row = {**columns(record), "run": run, "phase": record.phase.value}
        kept = {"reasons": dict(record.reasons), "metrics": dict(record.metrics)}
        return self._session.add(tables.phases, [{**row, **kept}]) == 1

    def count_late(self, run: str, step: int) -> None:  # noqa: D102
        table = tables.phases
        of = (table.c.run == run) & (table.c.step == step)
        self._session.run(update(table).where(of).values(late=table.c.late + 1))

    def checkpoint(self, run: str) -> StoredCheckpoint | None:  # noqa: D102
        table = tables.checkpoints
        kept = [table.c[one.name] for one in fields(StoredCheckpoint)]
        row = self._session.first(select(*kept).where(table.c.run == run))
        return None if row is None else StoredCheckpoint(**row)

    def put_checkpoint(self, run: str, checkpoint: StoredCheckpoint) -> None:  # noqa: D102
        self._session.put(tables.checkpoints, {**columns(checkpoint), "run": run})

    def blobs(self, run: str | None = None) -> Sequence[RunBlob]:  # noqa: D102
        table = tables.run_blobs
        query = select(table).order_by(table.c.run, table.c.sha256)
        if run is not None:
            query = query.where(table.c.run == run)
        return [RunBlob(**row) for row in self._session.all(query)]

    def put_blob(self, blob: RunBlob) -> None:  # noqa: D102
        self._session.put(tables.run_blobs, columns(blob))

    def remove_blobs(self, run: str, sha256s: Collection[str]) -> None:  # noqa: D102
        table = tables.run_blobs
        these = (table.c.run == run) & table.c.sha256.in_(sha256s)
        self._session.run(delete(table).where(these))

    def wanted_arrays(self) -> Collection[ArraysReference]:  # noqa: D102
        rows = self._session.all(_WANTED)
        return {ArraysReference(**one) for row in rows for one in row["arrays"]}


def digits(number: int) -> str:
    """A uint64 as text that sorts as it does."""
    return f"{number:020d}"


def _run(row: Row) -> Run:
    told = {
        "number": int(row["number"]),
        "state": RunState(row["state"]),
        "reasons": tuple(row["reasons"]),
    }
    return Run(**{**row, **told})


def _phase(row: Row) -> PhaseRecord:
    told = {name: value for name, value in row.items() if name != "run"}
    return PhaseRecord(**{**told, "phase": Phase(row["phase"])})
