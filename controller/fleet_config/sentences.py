"""A plan in sentences: the command line, the web page and the log show these."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from controller.fleet_config.estimate import Estimate
from controller.fleet_config.plan import Action, FleetPlan, GoalPlan
from controller.rollout.explain import named
from controller.rollout.rollout import Rollout

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_BYTES: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def plan_lines(plan: FleetPlan) -> tuple[str, ...]:
    """All of it; what begins with blanks belongs to the line above."""
    lines = [f"fleet {plan.fleet.name}: {_sum(plan)}"]
    for one in plan.goals:
        lines += _goal(one, plan)
    lines += [leftover_line(one) for one in plan.leftover]
    if plan.unmatched:
        count = _devices(len(plan.unmatched))
        lines.append(f"{count} of the fleet run none of its models: {named(plan.unmatched)}")
    if plan.changes:
        lines += ["assumed:", *(f"  {line}" for line in assumptions(plan))]
    return tuple(lines)


def assumptions(plan: FleetPlan) -> tuple[str, ...]:
    """What the times and bytes rest on."""
    assumed = plan.assumed
    tested, probation = span(assumed.test_seconds), span(assumed.probation_seconds)
    said = [
        "every device is online and asked enough, none fails, no gate is breached, approvals come at once",
        f"a link carries {size(assumed.bytes_per_second)} a second; files come whole, but for steps from what runs",
        f"a device tests a version for {tested}, and has it on probation for {probation}",
    ]
    zoneless = {name for one in plan.goals if one.changes for name in one.reach.zoneless}
    if zoneless:
        said.append(
            f"{_devices(len(zoneless))} in UTC, as they name no time zone: {named(zoneless)}"
        )
    return tuple(said)


def span(seconds: float) -> str:
    """A length of time, for people: ``2 d 4 h``.

    >>> span(187_200), span(5400), span(0)
    ('2 d 4 h', '1 h 30 min', '0 s')
    """
    left, said = round(seconds), []
    for length, unit in _UNITS:
        count, left = divmod(left, length)
        if count:
            said.append(f"{count} {unit}")
        elif said:
            break
    return " ".join(said[:2]) or "0 s"


def size(length: float) -> str:
    """An amount of data, for people.

    >>> size(1_250_000), size(12)
    ('1.25 MB', '12 bytes')
    """
    for factor, unit in _BYTES:
        if length >= factor:
            return f"{length / factor:.3g} {unit}"
    return f"{length:.0f} bytes"


def moment(at: float) -> str:
    """A time, for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _sum(plan: FleetPlan) -> str:
    begins = sum(one.changes for one in plan.goals)
    rest = len(plan.goals) - begins
    if not begins:
        return "nothing to start"
    said = f"{_rollouts(begins)} would start"
    return f"{said}, {rest} of its models would stay as now" if rest else said


def _goal(one: GoalPlan, plan: FleetPlan) -> Iterator[str]:
    goal = one.goal
    reference = f"{goal.model}/{one.version}"
    known = "" if goal.version == reference else f" ({goal.version})"
    slot = "" if goal.slot == "champion" else f" as {goal.slot}"
    head = f"{reference}{known}{slot}"
    match one.action:
        case Action.UNCHANGED:
            yield f"{head}: unchanged ({one.rollout}, {one.state})"
        case Action.STOPPED:
            yield f"{head}: stays {one.state} ({one.rollout}); --again starts it anew"
        case Action.START:
            yield f"{head}: {one.rollout} would start, to {goal.selector}"
        case Action.SUPERSEDE:
            other = " and ".join(one.differs)
            why = f"another {other}" if other else "the same, again"
            yield f"{head}: {one.rollout} would supersede {one.replaces} ({why}), to {goal.selector}"
    yield from _reach(one)
    if one.times is not None and one.reach.devices:
        yield from _sites(one)
        yield from _stages(one.times, plan.at)


def _reach(one: GoalPlan) -> Iterator[str]:
    reach = one.reach
    if one.changes:
        said = [_able(len(reach.devices))]
        if reach.already:
            said.append(f"{len(reach.already)} of them do already")
        if reach.offline:
            said.append(f"{len(reach.offline)} offline now")
        yield f"  {', '.join(said)}"
        for reason, names in reach.incompatible.items():
            yield f"  {_devices(len(names))} can't run it: {reason}: {named(names)}"
    for rollout, count in reach.taken.items():
        verb = "would be taken from" if one.changes else "belong to"
        yield f"  {_devices(count)} {verb} {rollout}, which is not this fleet's"


def _able(count: int) -> str:
    if not count:
        return "no device matches that can run it, yet; those that come later get it"
    return f"{_devices(count)} match{'es' if count == 1 else ''} and can run it"


def _sites(one: GoalPlan) -> Iterator[str]:
    devices = sum(count for count, _ in one.sites.values())
    total = sum(length for _, length in one.sites.values())
    if not devices:
        yield "  nothing to move"
        return
    most = "" if total == devices * one.bundle_bytes else "at most "
    each = f"{most}{size(one.bundle_bytes)} to each of {_devices(devices)}"
    yield f"  to move: {size(total)}, {each}"
    label = one.goal.policy.pace.site_label
    if any(one.sites):
        for site, (count, length) in one.sites.items():
            if count:
                where = f"{label}={site}" if site else f"without {label}"
                yield f"    {where}: {size(length)} to {_devices(count)}"


def _stages(times: Estimate, now: float) -> Iterator[str]:
    for one in times.stages:
        count = len(one.devices)
        said = f"  {one.name}: {_devices(one.planned)}"
        if count > one.planned:
            said += f", growing to {count} until enough is proven"
        if one.approval:
            said += ", once somebody approves"
        if one.begins_at > now:
            said += f", begins after {span(one.begins_at - now)}"
        yield f"{said}, takes {span(one.ends_at - one.begins_at)}"
    yield f"  done after {span(times.ends_at - now)}, at {moment(times.ends_at)}"


def leftover_line(one: Rollout) -> str:
    """What becomes of a rollout that the file no longer asks for."""
    return (
        f"{one.id} ({one.model}/{one.version} to {one.selector}, {one.state.value}) is no longer "
        "asked for, and is left alone; --prune ends it, and its devices keep what they run"
    )


def _devices(count: int) -> str:
    return f"{count:,} device" if count == 1 else f"{count:,} devices"


def _rollouts(count: int) -> str:
    return "1 rollout" if count == 1 else f"{count} rollouts"


def applied_lines(started: Sequence[str], ended: Sequence[str]) -> tuple[str, ...]:
    """What applying a file has done."""
    lines = [f"{one} has begun: `muster rollout watch {one}`" for one in started]
    lines += [f"{one} is ended; its devices keep what they run" for one in ended]
    return tuple(lines) or ("nothing to do",)
