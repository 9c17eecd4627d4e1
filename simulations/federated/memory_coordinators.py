"""Coordinators without processes: a test ends them when it likes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.errors import ControllerError


@dataclass
class MemoryCoordinator:
    """``controller.runtimes.coordinators.Coordinator`` in memory.

    Attributes:
        tell: what it calls when devices have to be told.
        woken: how many times it was told news.
    """

    run: str
    tell: Callable[[], None]
    woken: int = 0
    _status: asyncio.Future[int] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def wake(self) -> None:
        """There is news."""
        self.woken += 1

    async def ended(self) -> int:
        """Its status, once it has one."""
        return await asyncio.shield(self._status)

    def kill(self) -> None:
        """As a process that is killed."""
        self.end(-9)

    def end(self, status: int = 0) -> None:
        """As a process that ends by itself."""
        if not self._status.done():
            self._status.set_result(status)

    @property
    def alive(self) -> bool:
        """It has no status yet."""
        return not self._status.done()


@dataclass
class MemoryCoordinators:
    """``controller.runtimes.coordinators.Coordinators`` in memory.

    Attributes:
        started: all of them, in order.
        failure: raised instead of starting another.
    """

    started: list[MemoryCoordinator] = field(default_factory=list)
    failure: ControllerError | None = None

    async def start(self, run: str, tell: Callable[[], None]) -> MemoryCoordinator:
        """Starts one."""
        if self.failure is not None:
            raise self.failure
        made = MemoryCoordinator(run, tell)
        self.started.append(made)
        return made
