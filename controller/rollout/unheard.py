"""Which devices were told something that no report of theirs shows yet: commands may be lost."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

FIRST_SECONDS: Final = 60.0
"""A device reports what it acts on at once; a bad link may take this long."""
MOST_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Telling:
    """What a device was told last: when (monotonic seconds), and how often by now."""

    generation: int
    at: float
    times: int = 1

    @property
    def patience(self) -> float:
        """How long to wait for a report before it is told again: twice as long each time."""
        return min(FIRST_SECONDS * 2.0 ** min(self.times - 1, 10), MOST_SECONDS)


class Unheard:
    """What was told and not confirmed, by device. Remembered only: who connects is told anyway."""

    def __init__(self) -> None:
        self._tellings: dict[str, Telling] = {}

    def told(self, device: str, generation: int, now: float) -> None:
        """The device was sent its directive."""
        before = self._tellings.get(device)
        again = before is not None and before.generation == generation
        times = before.times + 1 if before is not None and again else 1
        self._tellings[device] = Telling(generation, now, times)

    def gone(self, device: str) -> None:
        """The device has no link: it is told when it connects."""
        self._tellings.pop(device, None)

    def reported(self, device: str, generation: int) -> None:
        """A signed report says which directive the device acts on."""
        telling = self._tellings.get(device)
        if telling is not None and generation >= telling.generation:
            del self._tellings[device]

    def due(self, online: Collection[str], now: float) -> Mapping[str, int]:
        """Whom to look after now, with what each was told; whoever has no link is forgotten."""
        for device in [one for one in self._tellings if one not in online]:
            self.gone(device)
        return {
            device: one.generation
            for device, one in self._tellings.items()
            if now - one.at >= one.patience
        }
