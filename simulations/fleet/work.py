"""What an install's states take and come to on a simulated device: the twin of ``install/slot/actions``.

Everything that is decided, is decided by the agent's own modules; here only files, models and requests
are made up.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Final

from msgspec.structs import replace

from agent.errors import DiskFull, ProbationFailed, TransportError
from agent.install.edit import Edit, proven, put_back, switched
from agent.install.gates import Circumstances, switch_gate
from agent.install.machine import State
from agent.install.outcome import quarantine_error
from agent.install.ports import TrafficSnapshot
from agent.install.probation import Verdict, judge
from agent.install.progress import passed
from agent.install.record import Install
from protos.documents import UNCONDITIONAL
from simulations.fleet.device import Device, without
from simulations.fleet.truth import APPROVALS, BASE_P99_SECONDS

VERIFY_SECONDS: Final = 0.5
CHECK_BYTES_PER_SECOND: Final = 50e6
SELF_TEST_SECONDS: Final = 4.0
REVERT_SECONDS: Final = 0.5
CRASH_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 5.0
"""Between two looks at a version on probation, once it could have passed."""
SOONEST_SECONDS: Final = 0.01
"""What is due sooner may never be: the sum of a time and very little is that time."""
NEEDS_LINK: Final = frozenset({State.VERIFYING, State.FETCHING})


def seconds(device: Device, install: Install) -> float:
    """How long the state's work takes; 0 if it takes no time worth an event."""
    takes = _SECONDS.get(install.state)
    return takes(device, install) if takes is not None else 0.0


def _probation_seconds(device: Device, install: Install) -> float:
    if device.ground.by_digest[install.sha256].conduct(device.number, 0.0).crashes:
        return CRASH_SECONDS
    return _next_look(device)


def _next_look(device: Device) -> float:
    policy = device.ground.probation
    elapsed = device.ground.queue.now - device.since
    rate = device.ground.requests_per_second
    first = policy.maximum_seconds
    if rate > 0:
        first = min(first, max(policy.minimum_seconds, policy.minimum_requests / rate))
    if elapsed < first:
        return max(SOONEST_SECONDS, first - elapsed)
    return max(SOONEST_SECONDS, min(LOOK_SECONDS, policy.maximum_seconds - elapsed))


def fetch_seconds(device: Device, install: Install) -> float:
    """How long the rest of its files takes over the device's link."""
    left = device.ground.by_digest[install.sha256].length - device.fetched.get(install.sha256, 0)
    return left / speed(device)


def speed(device: Device) -> float:
    """Bytes a second; what is lost is sent again."""
    return device.quality.speed * max(0.01, 1.0 - device.quality.loss) / device.slowness


def result(device: Device, install: Install) -> Edit | None:
    """What the state's work comes to; None if it is not decided yet.

    Raises:
        AgentError: it can't be done, or not now.
    """
    done = _RESULTS.get(install.state)
    if done is not None:
        return done(device, install)
    return Edit(installs=(passed(install, device.clock()),))


def _preflight(device: Device, install: Install) -> Edit:
    if device.disk_full:
        raise DiskFull(f"{install.model}/{install.version}: no room on the disk")
    return Edit(installs=(passed(install, device.clock()),))


def _self_test(device: Device, install: Install) -> Edit:
    conduct = device.ground.by_digest[install.sha256].conduct(device.number, 0.0)
    error = conduct.self_test_error(device.slowness)
    if error is not None:
        raise error
    return Edit(installs=(passed(install, device.clock()),))


def _waiting(device: Device, install: Install) -> Edit:
    reason = switch_gate(install, circumstances(device))
    if reason is not None:
        raise reason
    return Edit(installs=(passed(install, device.clock()),))


def _switch(device: Device, install: Install) -> Edit:
    edition = device.ground.by_digest[install.sha256]
    candidate = install.candidate or edition.deployed
    return switched(device.slot(install.key), install, candidate, device.clock())


def _revert(device: Device, install: Install) -> Edit:
    return put_back(device.slot(install.key), install, device.clock())


def is_plain(device: Device, install: Install) -> bool:
    """Whether there is nothing in the state's way, so that it just passes."""
    match install.state:
        case State.PREFLIGHT:
            return not device.disk_full
        case State.WAITING:
            return install.conditions == UNCONDITIONAL
        case _:
            return install.state not in _RESULTS


def circumstances(device: Device) -> Circumstances:
    """What the device is in: by its own clock and in its site's time zone."""
    zone = timezone(timedelta(seconds=device.offset))
    return Circumstances(datetime.fromtimestamp(device.clock(), zone))


def _verify(device: Device, install: Install) -> Edit:
    before = device.quarantined(install.sha256)
    if before is not None and before.refuses(install.rollout, install.attempt):
        raise quarantine_error(before)
    if not device.linked:
        raise TransportError("no link within 20 s")
    edition = device.ground.by_digest[install.sha256]
    learnt = replace(install, approvals=APPROVALS, candidate=edition.deployed)
    return Edit(installs=(passed(learnt, device.clock()),))


def _fetch(device: Device, install: Install) -> Edit:
    """All is there; what came before the link was lost is kept."""
    edition, queue = device.ground.by_digest[install.sha256], device.ground.queue
    have = device.fetched.get(install.sha256, 0)
    ended = queue.now if device.linked and device.link_since <= device.work_since else device.cut_at
    came = max(0.0, ended - device.work_since) * speed(device)
    have_now = min(edition.length, have + round(came))
    device.ground.tally.fetched_bytes += have_now - have
    device.fetched = {**device.fetched, install.sha256: have_now}
    if have_now < edition.length:
        raise TransportError("the link was lost")
    return Edit(installs=(passed(install, device.clock()),))


def _probation(device: Device, install: Install) -> Edit | None:
    ground = device.ground
    edition, elapsed = ground.by_digest[install.sha256], ground.queue.now - device.since
    conduct = edition.conduct(device.number, elapsed)
    asked = int(ground.numbers.poisson(ground.requests_per_second * (elapsed - device.looked)))
    device.requests += asked
    device.errors += int(ground.numbers.binomial(asked, conduct.errors)) if asked else 0
    device.looked = elapsed
    p99 = BASE_P99_SECONDS * conduct.slower * device.slowness
    traffic = TrafficSnapshot(device.requests, device.errors, p99 if device.requests else 0.0)
    found = judge(ground.probation, edition.manifest.budgets, traffic, elapsed)
    if found.verdict is Verdict.FAILED:
        raise ProbationFailed(found.reason)
    if found.verdict is Verdict.UNDECIDED:
        return None
    device.fetched = without(device.fetched, install.sha256)
    return proven(device.slot(install.key), install, device.clock())


_SECONDS: Final[Mapping[State, Callable[[Device, Install], float]]] = {
    State.VERIFYING: lambda device, _: VERIFY_SECONDS + 2 * device.quality.delay,
    State.FETCHING: fetch_seconds,
    State.SELF_TEST: lambda device, _: SELF_TEST_SECONDS * device.slowness,
    State.REVERTING: lambda *_: REVERT_SECONDS,
    State.PROBATION: _probation_seconds,
}
_RESULTS: Final[Mapping[State, Callable[[Device, Install], Edit | None]]] = {
    State.VERIFYING: _verify,
    State.PREFLIGHT: _preflight,
    State.FETCHING: _fetch,
    State.SELF_TEST: _self_test,
    State.WAITING: _waiting,
    State.SWITCHING: _switch,
    State.PROBATION: _probation,
    State.REVERTING: _revert,
}
