"""A rollout and what it wants: frozen values."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"  # every device that was assigned has proven that it runs the version
    FAILED = "failed"  # every device is decided, and some failed
    SUPERSEDED = "superseded"  # a newer rollout of the model has taken all its devices
    ABORTED = "aborted"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.SUPERSEDED, State.ABORTED})
ASSIGNING = frozenset({State.RUNNING, State.SUCCEEDED})
"""A rollout that has succeeded is a standing order for devices that come to match later."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Moves the devices that ``selector`` matches to one version."""

    id: str
    model: str
    version: int
    selector: str
    state: State
    created_at: float
    created_by: str
    slot: str = "champion"
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one slot of one device shall run, and which rollout says so."""

    device: str
    model: str
    slot: str
    version: int
    rollout: str
    assigned_at: float


@dataclass(frozen=True, slots=True)
class SignedDirective:
    """The newest directive of a device, as sent."""

    device: str
    generation: int
    envelope: bytes
    issued_at: float
