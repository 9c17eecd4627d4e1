"""How good rollouts' decisions are: many seeds of versions that are good and of versions that are not.

Two figures count. *False pause*: a good version was stopped. *Missed regression*: a bad version got
beyond its first stage. Each is told with its 95 % confidence interval (Clopper and Pearson 1934), beside
how many devices had tried the version by the end of its rollout.

The default policy is compared with the rule that is most in use, on the same seeds: Eclipse hawkBit's
error and success thresholds of 50 % each, a stage that half of its devices have finished starts the
next, one that half of its devices have failed stops the rollout, and nothing but install results is
looked at. It is played by the same engine, with a policy that says just that.
"""

import gc
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

from controller.rollout.gate.bounds import lower_bound, upper_bound
from controller.rollout.policy import STAGED, Budget, Policy, Proof, Stage
from controller.rollout.rollout import State
from simulations.fleet.scenario import Ask, Behaviour, Command, Scenario, Verb, Version, Who
from simulations.fleet.scenario_parser import behaviour
from simulations.fleet.simulation import Simulation

ROLLOUT: Final = "digits-2-1"
DAYS: Final = 2
SURE: Final = 0.975
"""Of each end, so that the interval is one of 95 %."""

HALF_AND_HALF: Final = Policy(
    stages=tuple(
        Stage(name=one.name, percent=one.percent, soak_seconds=0.0) for one in STAGED.stages
    ),
    # More than half, with nothing added for chance.
    budget=Budget(failed=0.499, unreachable=0.499, confidence=0.5),
    proof=Proof(),
)
RULES: Final = {"default policy": STAGED, "50 % / 50 %": HALF_AND_HALF}


@dataclass(frozen=True, slots=True)
class Case:
    """A version: ``says`` is what it does, as scenarios write it; nothing if it is good."""

    name: str
    says: str = ""
    bad: bool = True


CASES: Final = (
    Case("good", bad=False),
    Case("good; 1 % of devices are broken", "fails-self-test on 1% of devices", bad=False),
    Case("fails on 5 % of devices", "fails-self-test on 5% of devices"),
    Case("fails on 10 % of devices", "fails-self-test on 10% of devices"),
    Case("fails on 25 % of devices", "fails-self-test on 25% of devices"),
    Case("errors 2 % more after 10 min", "errors 2% after 10m"),
    Case("errors 5 % more after 10 min", "errors 5% after 10m"),
    Case("twice as slow", "slows 2x"),
    Case("confidence 0.1 lower", "loses-confidence 10%"),
    Case("drift in half of the windows", "drifts 50%"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One simulation of a study."""

    case: int
    rule: str
    devices: int
    seed: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rollout came to.

    Attributes:
        stopped: it was paused or went back.
        went_on: its second stage had begun by then.
        met: how many devices had tried the version by then.
    """

    stopped: bool
    went_on: bool
    met: int


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of so many, with the interval."""

    hits: int
    trials: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence."""
        if not self.trials:
            return 0.0, 1.0
        return (
            lower_bound(self.hits, self.trials, SURE),
            upper_bound(self.hits, self.trials, SURE),
        )

    def __str__(self) -> str:
        low, high = self.interval
        share = 100 * self.hits / self.trials if self.trials else 0.0
        return f"{share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True, slots=True)
class Row:
    """One case under one rule: false pauses of a good version, else missed regressions."""

    case: Case
    rule: str
    devices: int
    wrong: Rate
    met: float


def decide(job: Job) -> Decision:
    """Plays one rollout until it is decided."""
    case = CASES[job.case]
    simulation = Simulation(scenario(case, job.devices, RULES[job.rule]), job.seed)

    def decided() -> bool:
        return _standing(simulation)[0] not in {"", State.RUNNING}

    simulation.run(decided)
    state, second = _standing(simulation)
    stopped = state in {State.PAUSED, State.ROLLING_BACK, State.ROLLED_BACK}
    tally = simulation.ground.tally
    met = tally.ran.get("digits/2", set()) | tally.failed.get("digits/2", set())
    return Decision(stopped, second, len(met))


def _decide_and_forget(job: Job) -> Decision:
    """As ``decide``; then the world is cleared away, all parts of which know each other."""
    decision = decide(job)
    gc.collect()
    return decision


def scenario(case: Case, devices: int, policy: Policy) -> Scenario:
    """One rollout of that version to everybody."""
    found: tuple[Behaviour, ...] = (behaviour(case.says),) if case.says else ()
    start = Command(1, 0.0, "rollout start", Ask(Verb.START, "digits/2", Who("all")))
    return Scenario(
        name=case.name,
        title=case.name,
        until=DAYS * 86_400.0,
        devices=devices,
        versions=(Version("digits", 1), Version("digits", 2, behaviours=found)),
        running="digits/1",
        policy=policy,
        commands=(start,),
    )


def _standing(simulation: Simulation) -> tuple[str, bool]:
    with simulation.centre.store.read() as tx:
        rollout = tx.rollouts.get(ROLLOUT)
        records = tx.stages.all(ROLLOUT)
    second = any(one.number == 1 and one.opened_at for one in records)
    return "" if rollout is None else rollout.state, second


def study(sizes: Sequence[int], seeds: int, first: int = 1) -> Iterator[Row]:
    """Every case under every rule, in order; the same seeds for both rules."""
    jobs = [
        Job(case, rule, devices, seed)
        for devices in sizes
        for case in range(len(CASES))
        for rule in RULES
        for seed in range(first, first + seeds)
    ]
    with ProcessPoolExecutor(os.cpu_count(), initializer=gc.disable) as pool:
        found = pool.map(_decide_and_forget, jobs, chunksize=4)
        for start in range(0, len(jobs), seeds):
            yield _row(jobs[start], [next(found) for _ in range(seeds)])


def _row(job: Job, decisions: Sequence[Decision]) -> Row:
    case = CASES[job.case]
    wrong = sum(one.went_on if case.bad else one.stopped for one in decisions)
    met = sum(one.met for one in decisions) / len(decisions)
    return Row(case, job.rule, job.devices, Rate(wrong, len(decisions)), met)


def table(rows: Sequence[Row]) -> str:
    """The study as text: a line a case, the rules beside each other."""
    lines = []
    for devices in dict.fromkeys(row.devices for row in rows):
        lines += [f"{devices} devices, {rows[0].wrong.trials} seeds each", ""]
        head = f"{'':34}" + "".join(f"{rule:>34}" for rule in RULES)
        lines += [head, f"{'':34}" + f"{'decided wrongly':>24}{'tried by':>10}" * len(RULES)]
        for case in CASES:
            mine = {row.rule: row for row in rows if (row.case, row.devices) == (case, devices)}
            if len(mine) == len(RULES):
                cells = "".join(f"{mine[rule].wrong!s:>26}{mine[rule].met:>8.1f}" for rule in RULES)
                lines.append(f"{case.name:34}{cells}")
        lines.append("")
    return "\n".join(
        [
            "False pauses of good versions, missed regressions of bad ones (95 % confidence), and",
            "how many devices had tried the version by the end of its rollout.",
            "",
            *lines,
        ]
    )
