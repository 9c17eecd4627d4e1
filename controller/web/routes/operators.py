"""Operators, the audit record, and what devices tell."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from controller.access import actions
from controller.audit import Record, broken_at
from controller.errors import NotFound
from controller.store.store import Transaction
from controller.web.access import Admin, Services, Viewer
from controller.web.views import EventAnswer, OperatorAnswer, RecordAnswer

PAGE = 1000

router = APIRouter()


@dataclass(frozen=True, slots=True)
class NewOperator:
    """Who, and what they may do."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: str
    role: Annotated[str, Field(description="viewer, operator, approver or admin")]


@dataclass(frozen=True, slots=True)
class MadeOperator:
    """A new operator with the token, which is shown this once."""

    operator: OperatorAnswer
    token: str


@dataclass(frozen=True, slots=True)
class ChainAnswer:
    """Whether the audit chain holds.

    A chain that was cut at its end holds, too: compare ``last_digest`` with one noted elsewhere.
    """

    holds: bool
    records: int
    last_digest: str
    broken_at: Annotated[int, Field(description="the first record that does not follow; 0: none")]


@router.get("/whoami", tags=["operators"])
def whoami(operator: Viewer) -> OperatorAnswer:
    """Whose token this is."""
    return OperatorAnswer.of(operator)


@router.get("/operators", tags=["operators"])
def list_operators(services: Services, _: Admin) -> tuple[OperatorAnswer, ...]:
    """All operators, the revoked ones too, by name."""
    with services.store.begin() as tx:
        return tuple(OperatorAnswer.of(one) for one in actions.list_operators(tx))


@router.post("/operators", status_code=201, tags=["operators"])
def create_operator(services: Services, admin: Admin, wish: NewOperator) -> MadeOperator:
    """A new operator."""
    role = actions.parse_role(wish.role)
    with services.store.begin() as tx:
        made, token = actions.create(tx, wish.name, role, admin.name, services.now())
    return MadeOperator(OperatorAnswer.of(made), token)


@router.post("/operators/{name}/revoke", tags=["operators"])
def revoke_operator(services: Services, admin: Admin, name: str) -> OperatorAnswer:
    """The operator's token serves no more."""
    with services.store.begin() as tx:
        return OperatorAnswer.of(actions.revoke(tx, name, admin.name, services.now()))


@router.get("/audit", tags=["audit"])
def list_records(
    services: Services,
    _: Viewer,
    after: Annotated[int, Query(ge=0, description="sequence of the last one already seen")] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
) -> tuple[RecordAnswer, ...]:
    """Who did what, by sequence."""
    with services.store.begin() as tx:
        return tuple(RecordAnswer.of(one) for one in tx.audit.records(after, limit))


@router.get("/audit/verify", tags=["audit"])
def verify_records(services: Services, _: Viewer) -> ChainAnswer:
    """Whether every record follows the one before it."""
    with services.store.begin() as tx:
        broken = broken_at(_records(tx))
        last = tx.audit.last()
    count, digest = (0, "") if last is None else (last.sequence, last.digest)
    return ChainAnswer(broken is None, count, digest, broken or 0)


@router.get("/events", tags=["telemetry"])
def list_events(
    services: Services,
    _: Viewer,
    device: str | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
) -> tuple[EventAnswer, ...]:
    """What happened on one device, or on all, newest first."""
    with services.store.begin() as tx:
        if device is not None and tx.devices.get(device) is None:
            raise NotFound(f"no device {device!r}")
        return tuple(EventAnswer.of(one) for one in tx.telemetry.events(device, limit))


def _records(tx: Transaction) -> Iterator[Record]:
    after = 0
    while page := tx.audit.records(after, PAGE):
        yield from page
        # By count, not by what the records say of themselves: those may have been tampered with.
        after += len(page)
