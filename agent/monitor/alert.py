"""When a verdict becomes an event: at once if it is critical, else when it persists.

State and next state are values; what is told is decided here and nowhere else.
"""

from typing import Annotated, Final

import msgspec

from agent.monitor.finding import Judgement, Severity, Verdict
from protos.errors import DocumentError

RECENT: Final = 3
PERSISTENT: Final = 2
"""Of the RECENT windows, so many must agree before a warning is told."""


class AlertState(msgspec.Struct, frozen=True):
    """What was told of a model version, and what its last windows said, oldest first."""

    told: Verdict = Verdict.OK
    recent: Annotated[tuple[Verdict, ...], msgspec.Meta(max_length=RECENT)] = ()

    def encode(self) -> bytes:
        """As kept over a restart."""
        return msgspec.json.encode(self)


def read_state(data: bytes) -> AlertState:
    """The inverse of ``AlertState.encode``.

    Raises:
        DocumentError: it is something else.
    """
    try:
        return msgspec.json.decode(data, type=AlertState)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError("malformed", f"alert state: {error}") from error


def after(state: AlertState, judgement: Judgement) -> tuple[AlertState, Verdict | None]:
    """The next state, and the verdict that is to be told, if any.

    Windows with too little data say nothing either way. What was told is taken back when a window
    is healthy and the recent ones no longer add up to it.
    """
    verdict, told = judgement.verdict, state.told
    if verdict is Verdict.INSUFFICIENT_DATA:
        return state, None
    recent = (*state.recent, verdict)[-RECENT:]
    critical = any(one.severity is Severity.CRITICAL for one in judgement.findings)
    if verdict is not Verdict.OK and (critical or recent.count(verdict) >= PERSISTENT):
        told = verdict
    elif verdict is Verdict.OK and recent.count(Verdict.OK) >= min(PERSISTENT, len(recent)):
        told = Verdict.OK
    return AlertState(told, recent), told if told is not state.told else None
