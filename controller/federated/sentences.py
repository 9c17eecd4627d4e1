"""How a federated run stands, in words for people: a line for each phase."""

from collections.abc import Iterator, Mapping
from typing import Final

from controller.federated.actions import RunAccount
from controller.federated.evaluation_told import shown
from controller.federated.exchange import PhaseRecord
from controller.federated.run import Run, RunState
from controller.federated.run_file import BadRunFile, stored_plan
from controller.federated.schedule import Place, Work, next_work
from controller.federated.settling import awaits_version
from controller.federated.task import Phase, TaskState

MOST_METRICS: Final = 8
ALL_REPLIED: Final = "everybody has replied"
"""Why a phase has ended, mostly: then nothing is said of it."""
FIRST_LOSS: Final = "train_loss_first"
LAST_LOSS: Final = "train_loss"
FIRST: Final = ("accuracy", "loss")
"""These are told first, and examples never: they are what the counts are of."""


def account_lines(account: RunAccount) -> Iterator[str]:
    """How the run stands; what came of each phase; what is under way; how it ended."""
    run = account.run
    yield f"{run.id}: {run.model}/{run.version} by {method(run)}, {_progress(run)}"
    yield from (f"  because {reason}" for reason in run.reasons)
    for record in account.phases:
        yield f"  {_what(record)}: {phase_line(record)}"
    if run.state is RunState.RUNNING:
        yield from (f"  {line}" for line in _now(account))
    yield from (f"  {line}" for line in _ending(run))


def _now(account: RunAccount) -> Iterator[str]:
    """What is under way, or waited for."""
    if account.open_step:
        asked = sum(account.open.values())
        replied = asked - account.open.get(TaskState.POSTED, 0)
        yield f"under way: {replied} of {asked} devices have replied"
        return
    turnout, run, needed = account.turnout, account.run, _needed(account)
    if turnout is None or turnout.ready >= needed:
        return
    lost = [f"{count} {code}" for code, count in turnout.unready.items()]
    lost += [f"{turnout.away} without a link"] if turnout.away else []
    if turnout.ready or lost:
        besides = f"; {', '.join(lost)}" if lost else ""
        yield f"waits for devices: {turnout.ready} ready, {needed} needed{besides}"
    else:
        yield (
            f"waits for devices: none that it selects has said that it runs {run.model}/{run.version} "
            "and learns: roll it out there, with `[training] collect = true` in agent.toml"
        )


def _needed(account: RunAccount) -> int:
    """How many devices what comes next needs."""
    try:
        plan = stored_plan(account.run.file)
    except BadRunFile:  # of another release
        return 1
    told = [one.round for one in account.phases if one.phase is Phase.EVALUATE]
    place = Place(round=account.run.round, evaluated=max(told, default=-1))
    evaluates = next_work(place, plan.run.rounds, plan.evaluation) is Work.EVALUATE
    return plan.fewest_told if evaluates else plan.round.minimum_cohort


def phase_line(record: PhaseRecord) -> str:
    """What came of a phase: who, how good, how many bytes, how long and why it ended."""
    if record.phase is Phase.QUERY and not record.selected:
        return f"{record.eligible} devices are ready"
    parts = [_who(record)]
    parts += _measured(shown(record.metrics))
    parts.append(f"{_bytes(record.bytes_down)} down, {_bytes(record.bytes_up)} up")
    seconds = f"{(record.ended_ms - record.began_ms) / 1000:.1f} s"
    parts.append(seconds if record.why == ALL_REPLIED else f"{seconds} ({record.why})")
    return "; ".join(parts)


def method(run: Run) -> str:
    """The strategy, or the user's own app."""
    if run.app:
        return run.app
    try:
        return str(stored_plan(run.file).strategy.name)
    except BadRunFile:
        return "a strategy of another release"


def _progress(run: Run) -> str:
    if run.app:
        return f"{run.state}"
    return f"{run.state}, {run.round} of {run.rounds} rounds are done"


def _what(record: PhaseRecord) -> str:
    if record.phase is Phase.TRAIN:
        return f"round {record.round}"
    if record.phase is Phase.QUERY:
        return f"query {record.step}"
    return f"evaluated after round {record.round}" if record.round else "evaluated before"


def _who(record: PhaseRecord) -> str:
    ready = "" if record.eligible == record.selected else f" of {record.eligible} ready"
    parts = [f"{record.admitted} of {record.selected} devices{ready} count"]
    told = {
        "declined": record.declined,
        "refused": record.refused,
        "surplus": record.surplus,
        "silent": record.silent,
        "late": record.late,
    }
    parts += [f"{count} {name}" for name, count in told.items() if count]
    reasons = ", ".join(f"{count} {code}" for code, count in sorted(record.reasons.items()))
    return f"{', '.join(parts)} [{reasons}]" if reasons else ", ".join(parts)


def _measured(metrics: Mapping[str, float]) -> list[str]:
    """Each metric in words; a loss before and after training is one of them."""
    told = dict(metrics)
    losses = told.pop(FIRST_LOSS, None), told.pop(LAST_LOSS, None)
    found = [f"{name} {value:.4g}" for name, value in _in_order(told)]
    if losses[0] is not None and losses[1] is not None:
        found.insert(0, f"loss in training {losses[0]:.4g} → {losses[1]:.4g}")
    return found[:MOST_METRICS]


def _in_order(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    first = [(name, metrics[name]) for name in FIRST if name in metrics]
    rest = sorted(metrics.items())
    return first + [one for one in rest if one[0] not in FIRST and "examples" not in one[0]]


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    value, unit = count / 1e3, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def _ending(run: Run) -> Iterator[str]:
    match run.state:
        case RunState.PROPOSED:
            yield f"waits for `muster federated start {run.id}`, or `dismiss {run.id}`"
        case RunState.FAILED:
            yield f"failed: {run.error}"
            yield f"`muster federated resume {run.id}` goes on from the last round"
        case RunState.STOPPED:
            yield f"`muster federated resume {run.id}` goes on from the last round"
        case RunState.FINISHED if run.candidate is not None and run.error:
            yield f"came to {run.model}/{run.candidate}, {run.error}"
        case RunState.FINISHED if run.candidate is not None:
            yield f"came to {run.model}/{run.candidate}: `muster model show {run.model}/{run.candidate}`"
        case RunState.FINISHED if awaits_version(run):
            yield "its version is being made"
        case RunState.FINISHED if run.error:
            yield f"no version came of it: {run.error}"
            yield f"`muster federated resume {run.id}` tries again to make it"
