"""A model version's life, as a table: draft → validated → approved → published → recalled.

Rules:

1. Nothing leads to PUBLISHED but signatures of the model's approvers, as many as its threshold.
2. A version never changes; another file is another version.
3. A recall is for ever: the version can't be published again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a version stands."""

    DRAFT = "draft"  # its files are stored, the gates have not passed
    VALIDATED = "validated"  # the gates have passed; waits for signatures
    APPROVED = "approved"  # enough signatures are there
    PUBLISHED = "published"  # listed in the image metadata: devices may run it
    RECALLED = "recalled"  # devices must not run it any more
    REJECTED = "rejected"  # a gate or a person said no


class Event(StrEnum):
    """What can happen to a version."""

    GATES_PASSED = "gates-passed"
    GATES_FAILED = "gates-failed"
    SIGNED_ENOUGH = "signed-enough"
    SIGNATURES_VOID = "signatures-void"  # another version was published first: sign anew
    PUBLISHED = "published"
    RECALLED = "recalled"
    WITHDRAWN = "withdrawn"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.DRAFT, Event.GATES_PASSED): State.VALIDATED,
    (State.DRAFT, Event.GATES_FAILED): State.REJECTED,
    (State.DRAFT, Event.WITHDRAWN): State.REJECTED,
    (State.VALIDATED, Event.SIGNED_ENOUGH): State.APPROVED,
    (State.VALIDATED, Event.SIGNATURES_VOID): State.VALIDATED,
    (State.VALIDATED, Event.WITHDRAWN): State.REJECTED,
    (State.APPROVED, Event.PUBLISHED): State.PUBLISHED,
    (State.APPROVED, Event.SIGNATURES_VOID): State.VALIDATED,
    (State.APPROVED, Event.WITHDRAWN): State.REJECTED,
    (State.PUBLISHED, Event.RECALLED): State.RECALLED,
}


class IllegalEvent(Exception):
    """An event that the table has no row for; actions refuse it as a conflict before it gets here."""


def step(state: State, event: Event) -> State:
    """The state that ``event`` leads to.

    Raises:
        IllegalEvent: there is no such row.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalEvent(f"{event} in {state}") from None


@dataclass(frozen=True, slots=True)
class Model:
    """A model: a name, its approvers by key id, and how many of them must sign.

    ``approvers`` maps each key id to the name that people know the key by.
    """

    name: str
    created_at: float
    threshold: int
    approvers: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One version. ``manifest`` is the encoded ``protos.manifest.Manifest``."""

    model: str
    version: int
    state: State
    manifest: bytes
    manifest_sha256: str
    registered_at: float
    registered_by: str
    reasons: tuple[str, ...] = ()


class Change(StrEnum):
    """What a pending piece of metadata would do."""

    ADD = "add"
    RECALL = "recall"
    RENEW = "renew"  # nothing but a later expiry: before it lapses, or under other approvers


@dataclass(frozen=True, slots=True)
class Pending:
    """Metadata of a model's role that waits for approvers' signatures; it bears those it has."""

    model: str
    version: int
    change: Change
    metadata: bytes
    proposed_at: float
    proposed_by: str
    signed_by: tuple[str, ...] = ()  # key ids whose signatures were verified
