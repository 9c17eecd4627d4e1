"""What an error means to an install: refused for good, or not now.

1. The version was tried here and failed: BAD, and its digest is quarantined.
2. The device refused on purpose, or lacks something: BAD. It is not quarantined: more signatures,
   fresh metadata or another device make the same digest good, and a newer directive asks again.
3. Anything else is no fault of the version: DEFER. So are expired metadata: nothing is installed on
   their word, and the device goes on by itself once its clock or its metadata are right.
"""

from dataclasses import dataclass
from typing import Final

from agent.errors import (
    AgentError,
    CrashLoop,
    ExpiredMetadata,
    Incompatible,
    InstallFailed,
    ModelLoadFailed,
    ProbationFailed,
    Quarantined,
    SelfTestCrashed,
    SelfTestMemory,
    SelfTestMismatch,
    SelfTestSlow,
    SelfTestTimeout,
    Untrusted,
)
from agent.install.machine import Event

QUARANTINING: Final = frozenset(
    error.code
    for error in (
        InstallFailed,
        ModelLoadFailed,
        SelfTestMismatch,
        SelfTestCrashed,
        SelfTestTimeout,
        SelfTestMemory,
        SelfTestSlow,
        ProbationFailed,
        CrashLoop,
    )
)
"""Codes of failures that were the version's own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from an error."""

    event: Event
    code: str
    detail: str


def outcome_of(error: AgentError) -> Outcome:
    """BAD or DEFER, with the error's code and detail."""
    if isinstance(error, ExpiredMetadata):
        event = Event.DEFER
    elif isinstance(error, InstallFailed | Untrusted | Incompatible):
        event = Event.BAD
    else:
        event = Event.DEFER
    return Outcome(event, error.code, error.detail)


def quarantine_error(reason: tuple[str, str]) -> Quarantined:
    """The refusal of a digest that failed here before; ``reason`` is (code, detail) of that time."""
    code, detail = reason
    return Quarantined(f"it failed here before with {code}: {detail}" if detail else code)
