"""Devices and the tokens that make them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from controller.enrolment import actions as enrolment
from controller.fleet import actions as fleet
from controller.web.access import Admin, Operating, Services, Viewer
from controller.web.views import DeviceAnswer, TokenAnswer

router = APIRouter(tags=["devices"])


@dataclass(frozen=True, slots=True)
class Labelling:
    """Labels to set, and keys of labels to remove."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    set: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matching:
    """Whether a selector matches a device, and each part's share in that."""

    matches: bool
    lines: tuple[str, ...]
    status: Annotated[str, Field(description="active, or revoked: then rollouts leave it out")]


@dataclass(frozen=True, slots=True)
class TallyAnswer:
    """How many devices a selector matches, and each part's share in that. Revoked ones count apart."""

    devices: int
    matching: int
    lines: Annotated[tuple[str, ...], Field(description="of each part: its count and the values")]
    revoked: Annotated[int, Field(description="match, but rollouts leave them out")]


@dataclass(frozen=True, slots=True)
class NewToken:
    """On what terms a machine may join. ``lifetime_seconds`` left out is the controller's default."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    labels: Mapping[str, str] = field(default_factory=dict)
    lifetime_seconds: Annotated[float | None, Field(gt=0)] = None


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A join token with its text, which is shown this once: `muster-agent enrol TEXT`."""

    token: TokenAnswer
    text: str


@router.get("/devices")
def list_devices(
    services: Services,
    _: Viewer,
    selector: Annotated[str, Query(description="site=berlin and hw!=pi3")] = "all",
) -> tuple[DeviceAnswer, ...]:
    """The devices that a selector matches, by id."""
    with services.store.read() as tx:
        return tuple(
            DeviceAnswer.of(one) for one in fleet.list_devices(tx, services.now(), selector)
        )


@router.get("/devices/{device}")
def show_device(services: Services, _: Viewer, device: str) -> DeviceAnswer:
    """One device: what it is, what it runs, what is wanted of it."""
    with services.store.read() as tx:
        return DeviceAnswer.of(fleet.show(tx, device, services.now()))


@router.get("/devices/{device}/matching")
def explain_selector(services: Services, _: Viewer, device: str, selector: str) -> Matching:
    """Why a selector matches the device or not."""
    with services.store.read() as tx:
        explained = fleet.explain_selector(tx, selector, device)
        status = fleet.show(tx, device, services.now()).device.status
    return Matching(explained.matches, explained.lines, status.value)


@router.get("/matching")
def tally_selector(services: Services, _: Viewer, selector: str) -> TallyAnswer:
    """Why a selector matches so many devices: what each part of it matches alone."""
    with services.store.read() as tx:
        found, revoked = fleet.tally_selector(tx, selector)
    return TallyAnswer(found.devices, found.matching, found.lines, revoked)


@router.put("/devices/{device}/labels")
def label_device(
    services: Services, operator: Operating, device: str, labels: Labelling
) -> DeviceAnswer:
    """Sets and removes labels. Running rollouts follow."""
    with services.replanning() as (tx, now):
        fleet.label(tx, device, operator.name, now, labels.set, labels.remove)
        return DeviceAnswer.of(fleet.show(tx, device, now))


@router.post("/devices/{device}/revoke")
def revoke_device(services: Services, operator: Admin, device: str) -> DeviceAnswer:
    """Shuts the device out for good and cuts its link."""
    now = services.now()
    with services.store.begin() as tx:
        enrolment.revoke(tx, device, operator.name, now)
        answer = DeviceAnswer.of(fleet.show(tx, device, now))
    services.disconnect(device)
    services.wake_rollouts()
    return answer


@router.get("/tokens")
def list_tokens(services: Services, _: Operating) -> tuple[TokenAnswer, ...]:
    """Join tokens, oldest first; never their secrets."""
    with services.store.read() as tx:
        return tuple(TokenAnswer.of(one, services.now()) for one in tx.tokens.all())


@router.post("/tokens", status_code=201)
def create_token(services: Services, operator: Operating, wish: NewToken) -> MadeToken:
    """A token with which one machine may become a device, once."""
    now = services.now()
    lifetime = wish.lifetime_seconds or services.join_token_seconds
    with services.store.begin() as tx:
        token, text = enrolment.create_token(
            tx, services.terms(), operator.name, now, lifetime, wish.labels
        )
    return MadeToken(TokenAnswer.of(token, now), text)
