"""What the API answers with about federated runs. Times are Unix seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field

from controller.federated.actions import RunAccount
from controller.federated.evaluation_told import shown
from controller.federated.exchange import PhaseRecord
from controller.federated.run import Run
from controller.federated.sentences import account_lines, method
from controller.federated.settling import awaits_version
from controller.web.views import Time


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run."""

    id: str
    model: str
    version: Annotated[int, Field(description="the parent: what devices run meanwhile")]
    state: Annotated[
        str,
        Field(description="proposed, running, stopping, stopped, failed, finished or dismissed"),
    ]
    method: Annotated[str, Field(description="the strategy, or module:app")]
    round: Annotated[int, Field(description="how many are done")]
    rounds: int
    reasons: tuple[str, ...]
    incident: Annotated[str, Field(description="what it belongs to; empty: none")]
    candidate: Annotated[int | None, Field(description="the version that came of it")]
    error: str
    created_at: Time
    created_by: str
    started_at: Time
    ended_at: Time

    @classmethod
    def of(cls, run: Run) -> Self:
        """As it is stored."""
        return cls(
            id=run.id,
            model=run.model,
            version=run.version,
            state=run.state.value,
            method=method(run),
            round=run.round,
            rounds=run.rounds,
            reasons=run.reasons,
            incident=run.incident,
            candidate=run.candidate,
            error=run.error,
            created_at=run.created_ms / 1000,
            created_by=run.created_by,
            started_at=run.started_ms / 1000,
            ended_at=run.ended_ms / 1000,
        )


@dataclass(frozen=True, slots=True)
class PhaseAnswer:
    """A phase that is closed. Of those selected, five counts add up; late ones are silent, too."""

    step: int
    round: int
    phase: Annotated[str, Field(description="train, evaluate or query")]
    eligible: int
    selected: int
    admitted: int
    declined: int
    refused: int
    surplus: int
    silent: int
    late: int
    reasons: Annotated[Mapping[str, int], Field(description="of declined and refused, by code")]
    metrics: Mapping[str, float]
    bytes_down: int
    bytes_up: int
    began_at: Time
    ended_at: Time
    why: Annotated[str, Field(description="what closed it")]

    @classmethod
    def of(cls, one: PhaseRecord) -> Self:
        """As it is stored, without the sums that are for programs of our own."""
        return cls(
            step=one.step,
            round=one.round,
            phase=one.phase.value,
            eligible=one.eligible,
            selected=one.selected,
            admitted=one.admitted,
            declined=one.declined,
            refused=one.refused,
            surplus=one.surplus,
            silent=one.silent,
            late=one.late,
            reasons=dict(one.reasons),
            metrics=shown(one.metrics),
            bytes_down=one.bytes_down,
            bytes_up=one.bytes_up,
            began_at=one.began_ms / 1000,
            ended_at=one.ended_ms / 1000,
            why=one.why,
        )


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """One run, and what has come of it."""

    run: RunRow
    phases: tuple[PhaseAnswer, ...]
    under_way: Annotated[
        Mapping[str, int], Field(description="tasks of the phase under way, by state; often empty")
    ]
    registering: Annotated[bool, Field(description="a version is about to come of it")]
    file: Annotated[str, Field(description="TOML, as it was given")]
    because: Annotated[tuple[str, ...], Field(description="the same for people, line by line")]

    @classmethod
    def of(cls, account: RunAccount) -> Self:
        """As the account has it."""
        return cls(
            RunRow.of(account.run),
            tuple(PhaseAnswer.of(one) for one in account.phases),
            {state.value: count for state, count in account.open.items()},
            awaits_version(account.run),
            account.run.file,
            tuple(account_lines(account)),
        )
