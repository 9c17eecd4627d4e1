"""Rollouts and directives in the database."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, insert, select

from controller.errors import Conflict
from controller.rollout.policy import Policy
from controller.rollout.rollout import (
    Rollout,
    SignedDirective,
    State,
    Wanted,
)
from controller.rollout.standing import Outcome, Standing
from controller.store.rollout_tables import DIRECTIVES_KEPT
from controller.store.sql import tables
from controller.store.sql.noted import Noted
from controller.store.sql.session import Row, Session, columns

# A fleet that is told something asks these for every device.
_DIRECTIVES: Final = tables.directives.c
_NEWEST_FIRST: Final = (
    select(*(_DIRECTIVES[field.name] for field in fields(SignedDirective)))
    .where(_DIRECTIVES.device == bindparam("of"))
    .order_by(_DIRECTIVES.generation.desc())
)
_NEWEST: Final = _NEWEST_FIRST.limit(1)
_GENERATION: Final = select(func.max(_DIRECTIVES.generation)).where(
    _DIRECTIVES.device == bindparam("of")
)
_OTHERS: Final = tables.directives.alias()
_NEWEST_OF_EACH: Final = select(
    *(_DIRECTIVES[field.name] for field in fields(SignedDirective))
).where(
    _DIRECTIVES.generation
    == select(func.max(_OTHERS.c.generation))
    .where(_OTHERS.c.device == _DIRECTIVES.device)
    .scalar_subquery()
)
_TRIM: Final = delete(tables.directives).where(
    (_DIRECTIVES.device == bindparam("of"))
    & (
        _DIRECTIVES.generation
        <= _NEWEST_FIRST.with_only_columns(_DIRECTIVES.generation)
        .offset(DIRECTIVES_KEPT)
        .limit(1)
        .scalar_subquery()
    )
)


class SqlRollouts:
    """``controller.store.store.Rollouts``."""

    def __init__(self, session: Session, noted: Noted) -> None:
        self._session = session
        self._noted = noted

    def get(self, rollout: str) -> Rollout | None:  # noqa: D102 - see the Protocol
        row = self._session.first(select(tables.rollouts).where(tables.rollouts.c.id == rollout))
        return None if row is None else _rollout(row)

    def all(self) -> Sequence[Rollout]:  # noqa: D102
        table = tables.rollouts
        query = select(table).order_by(table.c.created_at.desc(), table.c.id.desc())
        return [_rollout(row) for row in self._session.all(query)]

    def put(self, rollout: Rollout) -> None:  # noqa: D102
        policy = rollout.policy.model_dump_json(exclude_defaults=True)
        self._session.put(tables.rollouts, {**columns(rollout), "policy": policy})

    def standings(self, rollout: str) -> Sequence[Standing]:  # noqa: D102
        table = tables.standings
        query = select(table).where(table.c.rollout == rollout).order_by(table.c.device)
        return [_standing(row) for row in self._session.all(query)]

    def put_standings(self, rollout: str, standings: Sequence[Standing]) -> None:  # noqa: D102
        table = tables.standings
        self._session.run(delete(table).where(table.c.rollout == rollout))
        self._session.add(table, [{"rollout": rollout, **columns(one)} for one in standings])

    def wanted(self, device: str | None = None) -> Sequence[Wanted]:  # noqa: D102
        table = tables.wanted
        query = select(table).order_by(table.c.device, table.c.model, table.c.slot)
        if device is not None:
            query = query.where(table.c.device == device)
        return [Wanted(**row) for row in self._session.all(query)]

    def put_wanted(self, wanted: Wanted) -> None:  # noqa: D102
        self._session.put(tables.wanted, columns(wanted))
        self._noted.note([wanted.device])

    def remove_wanted(self, device: str, model: str, slot: str) -> None:  # noqa: D102
        table = tables.wanted.c
        self._session.run(
            delete(tables.wanted).where(
                table.device == device, table.model == model, table.slot == slot
            )
        )
        self._noted.note([device])

    def directive(self, device: str) -> SignedDirective | None:  # noqa: D102
        row = self._session.run(_NEWEST, {"of": device}).first()
        return None if row is None else _directive(row)

    def newest_directives(self) -> Iterator[SignedDirective]:  # noqa: D102
        for row in self._session.run(_NEWEST_OF_EACH):
            yield _directive(row)

    def put_directive(self, directive: SignedDirective) -> None:  # noqa: D102
        newest = self._session.value(_GENERATION, {"of": directive.device})
        if newest is not None and directive.generation <= newest:
            raise Conflict(
                f"generation {directive.generation} for device {directive.device!r}, "
                f"which has {newest}"
            )
        self._session.run(insert(tables.directives), [columns(directive)])
        self._session.run(_TRIM, {"of": directive.device})
        self._noted.note([directive.device])

    def directives(self, device: str) -> Sequence[SignedDirective]:  # noqa: D102
        return [_directive(row) for row in self._session.run(_NEWEST_FIRST, {"of": device})]


def _directive(row: Iterable[Any]) -> SignedDirective:
    values = list(row)
    return SignedDirective(*values)


@lru_cache(maxsize=1024)
def _policy(text: str) -> Policy:
    """Read once: every turn of the planner asks for all rollouts, and a policy never changes."""
    return Policy.model_validate_json(text)


def _rollout(row: Row) -> Rollout:
    policy = _policy(row["policy"])
    return Rollout(**{**row, "state": State(row["state"]), "policy": policy})


def _standing(row: Row) -> Standing:
    told = {name: value for name, value in row.items() if name != "rollout"}
    return Standing(**{**told, "outcome": Outcome(row["outcome"])})
