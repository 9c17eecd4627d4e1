"""Rollouts: start, list, show, and what changes one that goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from controller.rollout import actions
from controller.rollout.policy import STAGED, Policy
from controller.rollout.steering import actions as steering
from controller.store.store import Transaction
from controller.web.access import Operating, Services, Viewer
from controller.web.rollout_views import RolloutAnswer

router = APIRouter(tags=["rollouts"])


@dataclass(frozen=True, slots=True)
class NewRollout:
    """Which version shall run where."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    version: Annotated[str, Field(description="digits/2, or digits@champion by alias")]
    selector: Annotated[str, Field(description="site=berlin and hw!=pi3, or all")]
    slot: Annotated[str, Field(description="champion answers, challenger only watches")] = (
        "champion"
    )
    allow_empty: Annotated[
        bool, Field(description="start it though no device matches that can run it")
    ] = False
    policy: Annotated[
        Policy, Field(description="stages, budgets and gates; without one, the careful default")
    ] = STAGED


@dataclass(frozen=True, slots=True)
class PreviewAnswer:
    """Whom a rollout would reach now, and who matches and can't run it, with the reasons."""

    devices: tuple[str, ...]
    incompatible: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Ending:
    """``keep``: what was assigned stays. ``revert``: back to what each device has proven before."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    how: steering.Abort = steering.Abort.KEEP


@dataclass(frozen=True, slots=True)
class AbortAnswer:
    """What the abort did, by device."""

    rollout: RolloutAnswer
    restored: Annotated[Mapping[str, int], Field(description="the version that is wanted now")]
    withdrawn: Annotated[tuple[str, ...], Field(description="nothing is wanted there any more")]
    left: Annotated[tuple[str, ...], Field(description="keep it: no earlier version is proven")]


@dataclass(frozen=True, slots=True)
class Pausing:
    """Why it is paused."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=1000)] = ""


@dataclass(frozen=True, slots=True)
class Retrying:
    """Which devices are asked again; none: all that have failed or are unreachable."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    devices: tuple[str, ...] = ()


@router.get("/rollouts")
def list_rollouts(services: Services, _: Viewer) -> tuple[RolloutAnswer, ...]:
    """Every rollout with its accounts, newest first."""
    with services.store.read() as tx:
        return tuple(RolloutAnswer.of(one) for one in actions.list_rollouts(tx, services.now()))


@router.get("/rollouts/preview")
def preview_rollout(
    services: Services, _: Viewer, version: str, selector: str = "all"
) -> PreviewAnswer:
    """Whom a rollout would reach, were it started now."""
    with services.store.read() as tx:
        found = actions.preview(tx, version, selector)
    return PreviewAnswer(found.devices, dict(found.incompatible))


@router.get("/rollouts/{rollout}")
def show_rollout(services: Services, _: Viewer, rollout: str) -> RolloutAnswer:
    """One rollout: who has proven that they run it, who has not, and why."""
    with services.store.read() as tx:
        return _shown(tx, rollout, services.now())


@router.post("/rollouts", status_code=201)
def start_rollout(services: Services, operator: Operating, wish: NewRollout) -> RolloutAnswer:
    """Brings a published version to the devices that match, now and later."""
    with services.replanning() as (tx, now):
        made = actions.start(
            tx,
            wish.version,
            wish.selector,
            operator.name,
            now,
            actions.Order(wish.slot, wish.policy, allow_empty=wish.allow_empty),
        )
        return _shown(tx, made.id, now)


@router.post("/rollouts/{rollout}/pause")
def pause_rollout(
    services: Services, operator: Operating, rollout: str, pausing: Pausing
) -> RolloutAnswer:
    """Releases no more devices; those that were go on and are counted."""
    with services.replanning() as (tx, now):
        steering.pause(tx, rollout, operator.name, now, pausing.reason)
        return _shown(tx, rollout, now)


@router.post("/rollouts/{rollout}/resume")
def resume_rollout(services: Services, operator: Operating, rollout: str) -> RolloutAnswer:
    """Goes on; what has failed so far is accepted, and only more counts."""
    with services.replanning() as (tx, now):
        steering.resume(tx, rollout, operator.name, now)
        return _shown(tx, rollout, now)


@router.post("/rollouts/{rollout}/approve")
def approve_stage(services: Services, operator: Operating, rollout: str) -> RolloutAnswer:
    """Lets the stage begin that waits for approval."""
    with services.replanning() as (tx, now):
        steering.approve(tx, rollout, operator.name, now)
        return _shown(tx, rollout, now)


@router.post("/rollouts/{rollout}/retry")
def retry_rollout(
    services: Services, operator: Operating, rollout: str, retrying: Retrying
) -> tuple[str, ...]:
    """Asks devices again that have failed or are unreachable; answers with whom."""
    with services.replanning() as (tx, now):
        return steering.retry(tx, rollout, operator.name, now, retrying.devices)


@router.post("/rollouts/{rollout}/abort")
def abort_rollout(
    services: Services, operator: Operating, rollout: str, ending: Ending
) -> AbortAnswer:
    """Ends a rollout that runs, or that has succeeded and goes on for devices that match later."""
    with services.replanning() as (tx, now):
        done = steering.abort(tx, rollout, operator.name, now, ending.how)
        answer = _shown(tx, rollout, now)
    return AbortAnswer(answer, dict(done.restored), done.withdrawn, done.left)


def _shown(tx: Transaction, rollout: str, now: float) -> RolloutAnswer:
    return RolloutAnswer.of(actions.show(tx, rollout, now))
