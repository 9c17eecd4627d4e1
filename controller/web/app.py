"""Builds the REST API and the pages that machines look at: health and metrics."""

import functools
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from controller.access import actions as access
from controller.access.operator import Role
from controller.web import problem
from controller.web.access import Services, caller, describe_access, roles
from controller.web.body_limit import BodyLimit
from controller.web.metrics import MetricsPage
from controller.web.routes import (
    audit,
    devices,
    events,
    federated,
    fleets,
    incidents,
    models,
    monitoring,
    operators,
    rollouts,
    signing,
)
from controller.web.services import ControllerServices

API: Final = "/api/v1"
VERSION: Final = "1.0"

_DESCRIPTION: Final = """
Muster runs machine-learning models on a fleet of edge devices, and keeps them right. This API is
what the `muster` command uses; every route is one transaction, and what changes anything stands in
the audit record.

* **Who may**: `Authorization: Bearer TOKEN`. A viewer looks; an operator registers versions, starts
  rollouts, labels devices and makes join tokens; an approver uploads signatures; an admin decides on
  models' approvers, operators and revocation. Each may do what the ones before may.
* **Refusals** have one shape: `{"error": {"code", "detail", "remedy"}}`. Programs go by `code`;
  `detail` names the field or file; `remedy` says what a person can do.
* **Times** are Unix seconds; 0 is never.
* **Signatures** are made where the keys are, never here: metadata is downloaded, checked, signed and
  brought back. This controller can't publish what people did not sign.
"""
_TAGS: Final = [
    {"name": "devices", "description": "Enrolled machines and the tokens that make them."},
    {"name": "models", "description": "Models, their versions, aliases and cards."},
    {"name": "signing", "description": "Image metadata: proposed here, signed elsewhere."},
    {"name": "rollouts", "description": "Bringing a version to the devices that match."},
    {"name": "fleets", "description": "What shall run where, as files."},
    {"name": "monitoring", "description": "Whether the world still looks as it did in training."},
    {"name": "federated", "description": "Runs that train a model where the data are."},
    {"name": "incidents", "description": "From the first finding to a fleet that has recovered."},
    {"name": "telemetry", "description": "What devices tell."},
    {"name": "operators", "description": "Who may use this API."},
    {"name": "audit", "description": "Who did what, as a chain that can be verified."},
]
ROUTERS: Final = (
    devices.router,
    models.router,
    signing.router,
    rollouts.router,
    fleets.router,
    monitoring.router,
    incidents.router,
    federated.router,
    events.router,
    operators.router,
    audit.router,
)

pages = APIRouter(include_in_schema=False)


def create_app(services: ControllerServices) -> FastAPI:
    """The application; serve it with any ASGI server, behind TLS."""
    app = FastAPI(
        title="Muster",
        version=VERSION,
        description=_DESCRIPTION,
        openapi_tags=list(_TAGS),
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
    )
    app.state.services = services
    app.state.metrics = MetricsPage()
    problem.install(app)
    app.add_middleware(BodyLimit)
    for router in ROUTERS:
        app.include_router(router, prefix=API, responses=problem.RESPONSES)
    app.include_router(pages)
    app.openapi = functools.partial(_openapi, app)  # type: ignore[method-assign]
    return app


@pages.get("/healthz")
def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@pages.get("/readyz")
def ready(services: Services) -> dict[str, str]:
    """The database answers, too.

    Raises:
        StoreError: it does not.
    """
    with services.store.read() as tx:
        signed = tx.metadata.current("timestamp") is not None
    return {"status": "ok", "image_metadata": "signed" if signed else "none"}


@pages.get("/metrics")
def show_metrics(request: Request, services: Services) -> Response:
    """Metrics for Prometheus; with a viewer's token, unless the configuration opens them."""
    if not services.open_metrics:
        access.require(caller(request, services), Role.VIEWER)
    page: MetricsPage = request.app.state.metrics
    return Response(page.text(services), media_type=CONTENT_TYPE_LATEST)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        schema["components"]["schemas"]["Problem"] = problem.PROBLEM
        describe_access(schema, {f"{API}{path}": role for path, role in roles(ROUTERS).items()})
        app.openapi_schema = schema
    return app.openapi_schema
