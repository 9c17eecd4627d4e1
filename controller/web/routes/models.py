"""Models, their versions, aliases and cards."""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field
from starlette.datastructures import FormData

from controller.errors import InvalidInput, NotFound
from controller.registry import actions
from controller.registry.registration import Registered, Registration
from controller.registry.version import State
from controller.signing.proposals import propose_if_possible
from controller.web.access import Operating, Services, Viewer
from controller.web.model_views import ModelAnswer, VersionAnswer
from controller.web.registration_form import FORM, OPTIONS_BYTES, read_form
from controller.web.services import ControllerServices
from protos.manifest import Role, read_manifest

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")

router = APIRouter(tags=["models"])


@dataclass(frozen=True, slots=True)
class RegisteredAnswer:
    """A version that is there now; ``notes`` say what was done to the data, and what to know."""

    version: VersionAnswer
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Why a version shall not be published."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=1000)] = ""


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """Which version the alias shall name."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    version: Annotated[int, Field(ge=1)]


@router.get("/models")
def list_models(services: Services, _: Viewer) -> tuple[ModelAnswer, ...]:
    """Every model with its versions, by name."""
    with services.store.read() as tx:
        return tuple(ModelAnswer.of(one) for one in actions.list_models(tx))


@router.get("/models/{model}")
def show_model(services: Services, _: Viewer, model: str) -> ModelAnswer:
    """One model."""
    with services.store.read() as tx:
        return ModelAnswer.of(actions.show_model(tx, model))


@router.post("/models/{model}/versions", status_code=201, openapi_extra=FORM)
async def register_version(
    request: Request, services: Services, by: Operating, model: str
) -> RegisteredAnswer:
    """Registers a version: checks the file, builds its monitor, runs the gates. Takes seconds.

    It comes out validated, or rejected with all reasons. If the model has approvers, metadata that
    would publish it waits for their signatures.
    """
    # The body is read here and not by a parameter, so that nobody without a token can send one.
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        raise InvalidInput(f"Content-Type: {content_type or 'none'}; send multipart/form-data")
    async with request.form(max_files=3, max_fields=1, max_part_size=OPTIONS_BYTES) as form:
        return await run_in_threadpool(_register, services, by.name, model, form)


@router.get("/models/{model}/versions/{version}")
def show_version(services: Services, _: Viewer, model: str, version: str) -> VersionAnswer:
    """One version, by its number or an alias."""
    with services.store.read() as tx:
        return VersionAnswer.of(actions.show_version(tx, _named(model, version)))


@router.get("/models/{model}/versions/{version}/manifest", response_class=Response)
def download_manifest(services: Services, _: Viewer, model: str, version: str) -> Response:
    """The manifest's exact bytes: what approvers sign for."""
    with services.store.read() as tx:
        found = actions.resolve(tx, _named(model, version))
    return Response(found.manifest, media_type="application/json")


@router.get("/models/{model}/versions/{version}/card", response_class=Response)
def download_card(services: Services, _: Viewer, model: str, version: str) -> Response:
    """The model card, as CycloneDX JSON."""
    with services.store.read() as tx:
        card = actions.card_of(tx, services.blobs, _named(model, version))
    return Response(card, media_type="application/vnd.cyclonedx+json")


@router.get("/models/{model}/versions/{version}/files/{role}", response_class=StreamingResponse)
def download_file(
    services: Services, _: Viewer, model: str, version: str, role: Role
) -> StreamingResponse:
    """A file of the version, by what it is for; its SHA-256 and length stand in the manifest."""
    with services.store.read() as tx:
        manifest = read_manifest(actions.resolve(tx, _named(model, version)).manifest)
    file = manifest.files.get(role)
    if file is None:
        raise NotFound(f"{manifest.reference} has no {role}")
    length = str(services.blobs.size(file.sha256))
    return StreamingResponse(
        services.blobs.read(file.sha256),
        media_type="application/octet-stream",
        headers={"Content-Length": length},
    )


@router.post("/models/{model}/versions/{version}/withdraw")
def withdraw_version(
    services: Services, by: Operating, model: str, version: int, why: Withdrawal
) -> VersionAnswer:
    """Rejects a version that is not published yet, and with it what waits for signatures."""
    with services.store.begin() as tx:
        actions.withdraw(tx, model, version, why.reason, by.name, services.now())
        return VersionAnswer.of(actions.show_version(tx, f"{model}/{version}"))


@router.put("/models/{model}/aliases/{alias}")
def set_alias(
    services: Services, by: Operating, model: str, alias: str, target: AliasTarget
) -> ModelAnswer:
    """Makes `MODEL@ALIAS` name a version."""
    with services.store.begin() as tx:
        actions.set_alias(tx, model, alias, target.version, by.name, services.now())
        return ModelAnswer.of(actions.show_model(tx, model))


@router.delete("/models/{model}/aliases/{alias}")
def remove_alias(services: Services, by: Operating, model: str, alias: str) -> ModelAnswer:
    """Makes `MODEL@ALIAS` name nothing."""
    with services.store.begin() as tx:
        actions.remove_alias(tx, model, alias, by.name, services.now())
        return ModelAnswer.of(actions.show_model(tx, model))


def _register(services: Services, by: str, model: str, form: FormData) -> RegisteredAnswer:
    registration = read_form(model, form)
    made = _made(services, by, registration)
    version = made.version
    with services.store.begin() as tx:
        if version.state is State.VALIDATED:
            propose_if_possible(tx, version, services.act(by))
        view = actions.show_version(tx, f"{version.model}/{version.version}")
    return RegisteredAnswer(VersionAnswer.of(view), made.notes)


def _made(services: ControllerServices, by: str, asked: Registration) -> Registered:
    store, blobs, now = services.store, services.blobs, services.now()
    if services.preparing is not None:
        return actions.register_by(store, blobs, services.preparing, asked, by, now)
    return actions.register(store, blobs, services.runtime, asked, by, now, services.generator())


def _named(model: str, version: str) -> str:
    return f"{model}/{version}" if _NUMBER.fullmatch(version) else f"{model}@{version}"
