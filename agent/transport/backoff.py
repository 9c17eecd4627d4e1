"""How long to wait before the next attempt (pure).

Full jitter: a uniform draw from nothing to a ceiling that doubles. It clears a crowd that was cut
off together faster, with fewer calls, than any schedule with a floor
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """A schedule of waits, in seconds."""

    base: float = 1.0
    cap: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.base <= self.cap:
            raise ValueError(f"base {self.base} must be above 0 and at most the cap {self.cap}")

    def ceiling(self, attempt: int) -> float:
        """The longest wait after ``attempt`` failures before this one: base * 2**attempt, capped."""
        # 2**64 bases are beyond any cap that makes sense; larger powers would overflow a float.
        return float(min(self.cap, self.base * 2 ** min(attempt, 64)))

    def delay(self, attempt: int, rng: random.Random) -> float:
        """A uniform draw from [0, ceiling]."""
        return rng.uniform(0.0, self.ceiling(attempt))
