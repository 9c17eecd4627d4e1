"""The audit record."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from controller.audit import Record, broken_at
from controller.store.store import Transaction
from controller.web.access import Services, Viewer
from controller.web.views import RecordAnswer

PAGE = 1000

router = APIRouter(tags=["audit"])


@dataclass(frozen=True, slots=True)
class ChainAnswer:
    """Whether the audit chain holds.

    A chain that was cut at its end holds, too: compare ``last_digest`` with one noted elsewhere.
    """

    holds: bool
    records: int
    last_digest: str
    broken_at: Annotated[int, Field(description="the first record that does not follow; 0: none")]


@router.get("/audit")
def list_records(
    services: Services,
    _: Viewer,
    after: Annotated[int, Query(ge=0, description="sequence of the last one already seen")] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
) -> tuple[RecordAnswer, ...]:
    """Who did what, by sequence."""
    with services.store.read() as tx:
        return tuple(RecordAnswer.of(one) for one in tx.audit.records(after, limit))


@router.get("/audit/verify")
def verify_records(services: Services, _: Viewer) -> ChainAnswer:
    """Whether every record follows the one before it."""
    with services.store.read() as tx:
        broken = broken_at(_records(tx))
        last = tx.audit.last()
    count, digest = (0, "") if last is None else (last.sequence, last.digest)
    return ChainAnswer(broken is None, count, digest, broken or 0)


def _records(tx: Transaction) -> Iterator[Record]:
    after = 0
    while page := tx.audit.records(after, PAGE):
        yield from page
        # By count, not by what the records say of themselves: those may have been tampered with.
        after += len(page)
