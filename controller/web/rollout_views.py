"""What the API answers with about rollouts. Times are Unix seconds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field

from controller.rollout.account import tally
from controller.rollout.explain import told
from controller.rollout.policy import Policy
from controller.rollout.progress import Progress
from controller.rollout.rollout import StageRecord
from controller.rollout.staging import stages_of
from controller.rollout.standing import Outcome, Standing
from controller.web.views import Time


@dataclass(frozen=True, slots=True)
class StandingAnswer:
    """One device in one rollout."""

    device: str
    outcome: Annotated[
        str,
        Field(
            description="ok, failed, unreachable, waiting, deferred or away; after an abort "
            "reverted or kept"
        ),
    ]
    doing: Annotated[str, Field(description="the install state that it last reported")]
    code: str
    detail: str
    stage: Annotated[int, Field(description="number of its stage, from 0")]
    soaks_until: Annotated[
        float,
        Field(description="Unix seconds, an estimate: a report ends a soak; 0 if it does not soak"),
    ]

    @classmethod
    def of(cls, standing: Standing) -> Self:
        """As the accounts have it."""
        return cls(
            standing.device,
            standing.outcome.value,
            standing.doing,
            standing.code,
            standing.detail,
            standing.stage,
            standing.soaks_until,
        )


@dataclass(frozen=True, slots=True)
class StageAnswer:
    """One stage of a rollout; ``size`` counts the devices of the stages before it, too."""

    name: str
    state: Annotated[str, Field(description="pending, held, open, breached, reverted or passed")]
    size: int
    ok: int
    failed: int
    unreachable: int
    released: int
    opened_at: Time
    passed_at: Time
    approved_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class RolloutAnswer:
    """One rollout and its accounts. ``because`` says all of it in sentences, the sum first."""

    id: str
    model: str
    version: int
    slot: str
    selector: str
    state: Annotated[
        str,
        Field(
            description="running, paused, rolling-back, succeeded, rolled-back, superseded or aborted"
        ),
    ]
    reason: Annotated[str, Field(description="of a state other than running")]
    fleet: Annotated[str, Field(description="the fleet file that asked for it, if one did")]
    policy: Policy
    created_at: Time
    created_by: str
    ended_at: Time
    ok: Annotated[int, Field(description="devices that have proven that they run it")]
    failed: int
    waiting: int
    deferred: Annotated[int, Field(description="devices that wait on purpose, as for a window")]
    unreachable: Annotated[int, Field(description="devices that were told, and are silent since")]
    away: Annotated[int, Field(description="devices that are offline and have not been told yet")]
    reverted: Annotated[int, Field(description="devices that an abort put back")]
    kept: Annotated[int, Field(description="devices that an abort left as they were")]
    stages: tuple[StageAnswer, ...]
    held: Annotated[tuple[str, ...], Field(description="devices of the control group")]
    standings: tuple[StandingAnswer, ...]
    incompatible: Annotated[
        Mapping[str, tuple[str, ...]], Field(description="devices that can't run it: the reasons")
    ]
    taken: Annotated[
        Mapping[str, str], Field(description="devices that a newer rollout has: its id")
    ]
    because: tuple[str, ...]

    @classmethod
    def of(cls, progress: Progress) -> Self:
        """As the accounts have it."""
        rollout = progress.rollout
        return cls(
            rollout.id,
            rollout.model,
            rollout.version,
            rollout.slot,
            rollout.selector,
            rollout.state.value,
            rollout.reason,
            rollout.fleet,
            rollout.policy,
            rollout.created_at,
            rollout.created_by,
            rollout.ended_at,
            progress.count(Outcome.OK),
            progress.count(Outcome.FAILED),
            progress.count(Outcome.WAITING),
            progress.count(Outcome.DEFERRED),
            progress.count(Outcome.UNREACHABLE),
            progress.count(Outcome.AWAY),
            progress.count(Outcome.REVERTED),
            progress.count(Outcome.KEPT),
            tuple(_stages(progress)),
            tuple(sorted(progress.held)),
            tuple(StandingAnswer.of(one) for one in progress.standings),
            dict(progress.incompatible),
            dict(progress.taken),
            told(progress),
        )


def _stages(progress: Progress) -> Iterator[StageAnswer]:
    policy, records = progress.rollout.policy, progress.stages
    by_stage: dict[int, list[Standing]] = {}
    for standing in progress.standings:
        by_stage.setdefault(standing.stage, []).append(standing)
    control = len(records) > len(policy.stages)
    for number, stage in enumerate(stages_of(policy, control=control)):
        record = records[number] if number < len(records) else StageRecord("", number)
        stood = tally(by_stage.get(number, ()))
        yield StageAnswer(
            stage.name,
            record.state.value,
            record.size,
            stood.ok,
            stood.failed,
            stood.unreachable,
            stood.size,
            record.opened_at,
            record.passed_at,
            record.approved_by,
            record.reason,
        )
