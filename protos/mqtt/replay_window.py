"""Which numbers of a sender have come already: each is taken once, in any order (pure).

As the anti-replay window of IPsec (RFC 4303, section 3.4.3): a highest number and a bitmap behind it.
What is older than the window counts as seen.
"""

from dataclasses import dataclass
from typing import Final

SIZE: Final = 1024


@dataclass(slots=True)
class ReplayWindow:
    """Numbers from 1 on. ``highest`` is 0 before the first; bit i of ``bitmap`` is highest - i."""

    highest: int = 0
    bitmap: int = 0

    def take(self, number: int) -> bool:
        """Whether the number is new; from now on it is not."""
        if number < 1:
            return False
        ahead = number - self.highest
        if ahead > 0:
            self.bitmap = ((self.bitmap << min(ahead, SIZE)) | 1) & ((1 << SIZE) - 1)
            self.highest = number
            return True
        bit = 1 << -ahead
        if -ahead >= SIZE or self.bitmap & bit:
            return False
        self.bitmap |= bit
        return True
