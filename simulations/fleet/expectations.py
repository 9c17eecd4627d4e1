"""Whether what a scenario expects has come true."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.rollout.staging import stages_of
from controller.store.store import Transaction
from simulations.fleet.scenario import Expectation
from simulations.fleet.tally import Tally


@dataclass(frozen=True, slots=True)
class Finding:
    """An expectation, whether it holds, and what is so."""

    expectation: Expectation
    holds: bool
    found: str

    def __str__(self) -> str:
        word = "as expected" if self.holds else "NOT as expected"
        return f"{word}: {self.expectation.text} ({self.found})"


def findings(
    expectations: Iterable[Expectation], tx: Transaction, tally: Tally, running: Mapping[str, int]
) -> tuple[Finding, ...]:
    """Each expectation with what has become of it; ``running`` is how many run each version."""
    return tuple(
        _of_devices(one, tally, running) if "/" in one.subject else _of_rollout(one, tx)
        for one in expectations
    )


def _of_rollout(expected: Expectation, tx: Transaction) -> Finding:
    rollout = tx.rollouts.get(expected.subject)
    if rollout is None:
        return Finding(expected, holds=False, found="there is no such rollout")
    if not expected.stage:
        return Finding(expected, rollout.state == expected.what, f"it is {rollout.state}")
    records = {one.number: one.state for one in tx.stages.all(expected.subject)}
    for number, stage in enumerate(stages_of(rollout.policy, control=True)):
        if stage.name == expected.stage and number in records:
            state = records[number]
            return Finding(expected, state == expected.what, f"it is {state}")
    return Finding(expected, holds=False, found="there is no such stage")


def _of_devices(expected: Expectation, tally: Tally, running: Mapping[str, int]) -> Finding:
    reference = expected.subject
    ever = {"ran": tally.ran, "committed": tally.committed, "failed": tally.failed}
    if expected.what in ever:
        count = len(ever[expected.what].get(reference, ()))
    else:
        count = running.get(reference, 0)
    holds = expected.least <= count <= expected.most
    return Finding(expected, holds, "1 device" if count == 1 else f"{count} devices")
