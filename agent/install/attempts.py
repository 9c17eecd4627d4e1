"""What a restart of the agent means to an install, and when there have been too many."""

from msgspec.structs import replace

from agent.errors import CrashLoop
from agent.install.machine import COUNTED, MAX_RESUMPTIONS, RESUME
from agent.install.outcome import outcome_of
from agent.install.progress import refused
from agent.install.record import Install
from protos.documents import HELD


def resume(install: Install, now: float) -> Install:
    """The install as the agent goes on with it after a restart; the same one if nothing changes.

    A restart where the version's own code was running is counted, unless the agent was asked to end
    or the version waited there; one more than ``MAX_RESUMPTIONS`` fails it as a crash loop.
    """
    waits = install.code in HELD
    counted = install.state in COUNTED and not install.rested and not waits
    resumed = replace(install, resumptions=install.resumptions + counted, rested=False)
    if counted and resumed.resumptions > MAX_RESUMPTIONS:
        reason = CrashLoop(f"{resumed.resumptions} restarts in the middle of this install")
        return refused(resumed, outcome_of(reason), now)
    state = RESUME[install.state]
    if state is install.state:
        return resumed
    if waits:  # what it waited for is not asked before it is there again
        resumed = replace(resumed, not_before=0.0, code="", detail="")
    return replace(resumed, state=state, since=now)


def rest(install: Install) -> Install:
    """The install as an agent leaves it that was asked to end; the same one if that says nothing."""
    return replace(install, rested=True) if install.state in COUNTED else install


def retry_delay(deferrals: int, first: float, cap: float, share: float) -> float:
    """Seconds to wait after so many deferrals in a row: doubling, up to ``cap``.

    ``share`` of [0, 1) spreads devices that were deferred together over the upper half.
    """
    full = min(cap, first * 2.0 ** min(deferrals, 32))
    return full * (0.5 + 0.5 * share)
