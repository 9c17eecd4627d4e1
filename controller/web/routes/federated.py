"""Federated runs: start, list, show, stop, resume; and what becomes of proposals."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field

from controller.access import actions as access
from controller.access.operator import Role
from controller.errors import NotFound
from controller.federated import actions
from controller.store.store import Transaction
from controller.web import byte_range
from controller.web.access import Operating, Services, Viewer
from controller.web.federated_views import RunAnswer, RunRow

router = APIRouter(tags=["federated"])


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run file."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    text: Annotated[str, Field(description="TOML")]
    file: Annotated[str, Field(max_length=255, description="what messages call it")] = "run.toml"
    app: Annotated[
        str,
        Field(
            description="module:app of a ServerApp that the controller can import, by an admin; "
            "empty: the strategy that the file names"
        ),
    ] = ""


@router.get("/federated/runs")
def list_runs(
    services: Services, _: Viewer, model: Annotated[str | None, Query()] = None
) -> tuple[RunRow, ...]:
    """Every run, or those of one model, newest first."""
    with services.store.read() as tx:
        return tuple(RunRow.of(one) for one in tx.runs.all(model))


@router.get("/federated/runs/{run}")
def show_run(services: Services, _: Viewer, run: str) -> RunAnswer:
    """One run: what came of each of its phases, and what is under way."""
    with services.store.read() as tx:
        return _shown(tx, run)


@router.get("/federated/arrays/{sha256}", response_class=StreamingResponse)
def download_arrays(
    services: Services,
    _: Viewer,
    sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
    wanted: Annotated[str, Header(alias="Range", description="one range of bytes")] = "",
) -> StreamingResponse:
    """Parameters that devices are to fetch for a phase under way: for a mirror near them."""
    with services.store.read() as tx:
        if sha256 not in {one.sha256 for one in tx.runs.wanted_arrays()}:
            raise NotFound(f"no phase under way needs arrays {sha256[:12]}")
    length = services.blobs.size(sha256)
    part = byte_range.asked(wanted, length)
    told = range(length) if part is None else part
    headers = {"Content-Length": str(len(told)), "Accept-Ranges": "bytes"}
    if part is not None:
        headers["Content-Range"] = byte_range.content_range(part, length)
    return StreamingResponse(
        _bytes(services.blobs.read(sha256, told.start), len(told)),
        status_code=200 if part is None else 206,
        media_type="application/octet-stream",
        headers=headers,
    )


@router.post("/federated/runs", status_code=201)
def start_run(services: Services, operator: Operating, body: NewRun) -> RunAnswer:
    """Begins a run. An app of one's own runs code on the controller: that takes an admin."""
    if body.app:
        access.require(operator, Role.ADMIN)
    actions.require_flower()
    with services.store.begin() as tx:
        wish = actions.Wish(body.text, operator.name, body.file, body.app)
        made = actions.start(tx, wish, services.now())
        answer = _shown(tx, made.id)
    services.wake_runs()
    return answer


@router.post("/federated/runs/{run}/start")
def start_proposed_run(services: Services, operator: Operating, run: str) -> RunAnswer:
    """Begins a run that was proposed."""
    actions.require_flower()
    with services.store.begin() as tx:
        actions.start_proposed(tx, run, operator.name, services.now())
        answer = _shown(tx, run)
    services.wake_runs()
    return answer


@router.post("/federated/runs/{run}/dismiss")
def dismiss_run(services: Services, operator: Operating, run: str) -> RunAnswer:
    """Nobody wants a run that was proposed."""
    with services.store.begin() as tx:
        actions.dismiss(tx, run, operator.name, services.now())
        return _shown(tx, run)


@router.post("/federated/runs/{run}/stop")
def stop_run(services: Services, operator: Operating, run: str) -> RunAnswer:
    """Gives up the round under way; what was done stays, and the run can be resumed."""
    with services.store.begin() as tx:
        actions.stop(tx, run, operator.name, services.now())
        answer = _shown(tx, run)
    services.wake_runs()
    return answer


@router.post("/federated/runs/{run}/resume")
def resume_run(services: Services, operator: Operating, run: str) -> RunAnswer:
    """Goes on with a run that was stopped or has failed, from its last round."""
    actions.require_flower()
    with services.store.begin() as tx:
        actions.resume(tx, run, operator.name, services.now())
        answer = _shown(tx, run)
    services.wake_runs()
    return answer


def _bytes(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    """The first so many of them."""
    for piece in pieces:
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return


def _shown(tx: Transaction, run: str) -> RunAnswer:
    return RunAnswer.of(actions.account_of(tx, run))
