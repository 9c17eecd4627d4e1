"""What devices tell."""

from typing import Annotated

from fastapi import APIRouter, Query

from controller.errors import NotFound
from controller.web.access import Services, Viewer
from controller.web.views import EventAnswer

MAX_EVENTS = 1000

router = APIRouter(tags=["telemetry"])


@router.get("/events")
def list_events(
    services: Services,
    _: Viewer,
    device: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100,
) -> tuple[EventAnswer, ...]:
    """What happened on one device, or on all, newest first."""
    with services.store.read() as tx:
        if device is not None and tx.devices.get(device) is None:
            raise NotFound(f"no device {device!r}")
        return tuple(EventAnswer.of(one) for one in tx.telemetry.events(device, limit))
