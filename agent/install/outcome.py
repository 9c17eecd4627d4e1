"""What an error means to an install: refused for good, or not now.

1. The version was tried here and failed: BAD, and its digest is quarantined.
2. A self-test that was too slow or out of time proves nothing at once, for a busy device is slow with
   every version: DEFER, and only the ``MAX_TRIES``-th of them is a failure as of (1).
3. The device refused on purpose, or lacks something: BAD. It is not quarantined: more signatures,
   fresh metadata or another device make the same digest good, and a newer directive asks again.
4. Anything else is no fault of the version: DEFER. So are expired metadata: nothing is installed on
   their word, and the device goes on by itself once its clock or its metadata are right.
5. What waits for its window is put off until that opens; everything else for a while that grows.
"""

from typing import Final

import msgspec

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
from agent.install.gates import OutsideWindow
from agent.install.machine import MAX_TRIES, Event
from agent.store.device_store import Quarantine

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

INCONCLUSIVE: Final = frozenset(error.code for error in (SelfTestSlow, SelfTestTimeout))
"""Codes of failures that a busy device brings about, too: several prove what one does not."""


class Outcome(msgspec.Struct, frozen=True):
    """What follows from an error.

    Attributes:
        until: what is deferred can't be done before, in Unix seconds; 0 if that is not known.
    """

    event: Event
    code: str
    detail: str
    until: float = 0.0


def outcome_of(error: AgentError, tries: int = MAX_TRIES) -> Outcome:
    """BAD or DEFER, with the error's code and detail.

    ``tries`` counts the inconclusive self-tests of this install, the present one included.
    """
    once_more = error.code in INCONCLUSIVE and tries < MAX_TRIES
    if once_more or isinstance(error, ExpiredMetadata):
        event = Event.DEFER
    elif isinstance(error, InstallFailed | Untrusted | Incompatible):
        event = Event.BAD
    else:
        event = Event.DEFER
    until = error.opens_at if isinstance(error, OutsideWindow) else 0.0
    return Outcome(event, error.code, error.detail, until)


def quarantine_error(before: Quarantine) -> Quarantined:
    """The refusal of a digest that failed here before."""
    code, detail = before.code, before.detail
    return Quarantined(f"it failed here before with {code}: {detail}" if detail else code)
