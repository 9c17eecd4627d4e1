"""Whether what a scenario expects has come true."""

from collections.abc import Iterable
from dataclasses import dataclass

from controller.store.store import Transaction
from simulations.fleet.scenario import Expectation
from simulations.fleet.tally import Doing, Tally


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
    expectations: Iterable[Expectation], tx: Transaction, tally: Tally
) -> tuple[Finding, ...]:
    """Each expectation with what has become of it."""
    return tuple(
        _of_devices(one, tally) if "/" in one.subject else _of_rollout(one, tx)
        for one in expectations
    )


def _of_rollout(expected: Expectation, tx: Transaction) -> Finding:
    rollout = tx.rollouts.get(expected.subject)
    if rollout is None:
        return Finding(expected, holds=False, found="there is no such rollout")
    return Finding(expected, rollout.state == expected.what, f"it is {rollout.state}")


def _of_devices(expected: Expectation, tally: Tally) -> Finding:
    count = number_of(expected.what, expected.subject, tally)
    holds = expected.least <= count <= expected.most
    return Finding(expected, holds, "1 device" if count == 1 else f"{count} devices")


def number_of(what: str, reference: str, tally: Tally) -> int:
    """How many devices ``ran``, ``committed`` or ``failed`` the version, or ``run`` it now."""
    match what:
        case "ran":
            return len(tally.ran.get(reference, ()))
        case "committed":
            return len(tally.committed.get(reference, ()))
        case "failed":
            return len(tally.failed.get(reference, ()))
        case _:
            now = {Doing.RUNS, Doing.PROBATION}
            return sum(
                count
                for part, count in tally.parts.items()
                if part.doing in now and part.reference == reference
            )
