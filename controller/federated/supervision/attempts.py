"""When a coordinator that died is started again, and when it is given up."""

from dataclasses import dataclass
from typing import Final

FIRST_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 60.0
MOST_FUTILE: Final = 8
"""Deaths in a row without a phase between them: then something is wrong that time does not mend."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """How it went so far.

    Attributes:
        futile: deaths since a phase was closed.
        step: the last phase that was closed when it died.
        due: when it is started again, by the monotonic clock.
    """

    futile: int = 0
    step: int = 0
    due: float = 0.0

    @property
    def given_up(self) -> bool:
        """It makes no progress."""
        return self.futile > MOST_FUTILE


def died(before: Attempts, step: int, now: float) -> Attempts:
    """After another death, ``step`` being the last phase that is closed."""
    futile = before.futile + 1 if step == before.step else 1
    wait = min(FIRST_SECONDS * 2 ** (futile - 1), LONGEST_SECONDS)
    return Attempts(futile, step, now + wait)
