"""One device's part in a rollout: frozen values."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What a device's part in a rollout has come to; ``account.py`` has the rules."""

    OK = "ok"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    WAITING = "waiting"
    DEFERRED = "deferred"
    AWAY = "away"
    REVERTED = "reverted"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Standing:
    """One device in one rollout.

    Attributes:
        doing: the install state that it last reported for the version; empty if none.
        code: why it failed, or what it waits for.
        detail: of the code; of a REVERTED device, what it was put back to.
        stage: the number of its stage.
        soaks_until: when it will have soaked, in Unix seconds, if nothing comes between: an estimate
            for people. 0 if it does not soak; what a device reports ends a soak.
    """

    device: str
    outcome: Outcome
    doing: str = ""
    code: str = ""
    detail: str = ""
    stage: int = 0
    soaks_until: float = 0.0
