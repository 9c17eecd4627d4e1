"""The store in memory, under a controller that may die in the middle of a turn."""

from collections.abc import Mapping
from typing import Final

from simulations.fleet.device import Device
from simulations.fleet.ground import Ground
from simulations.fleet.scenario import Moment
from simulations.fleet.telling import Tellings
from simulations.memory_store import MemoryStore
from simulations.memory_store.telemetry import Told

_RENEWAL: Final = 1
"""A lease that is renewed is one change, and no plan."""


class Crashed(Exception):
    """The controller is no more."""


class FragileStore(MemoryStore):
    """A ``Store``. What was not committed when its controller crashes never was.

    Attributes:
        in_turn: whether what is written now is a turn of the planner.
        armed: when in a turn the controller is to crash; None if it is not.
    """

    def __init__(self, ground: Ground, devices: Mapping[str, Device], seed: int) -> None:
        super().__init__()
        self.in_turn = False
        self.armed: Moment | None = None
        self._tables.totals = Tellings(self._journal, Told(), ground, devices, seed)

    def _before_commit(self, changes: int) -> None:
        if changes > _RENEWAL:
            self.may_crash(Moment.BEFORE_RECORD)

    def _after_commit(self, changes: int) -> None:
        if changes > _RENEWAL:
            self.may_crash(Moment.AFTER_RECORD)

    def may_crash(self, moment: Moment) -> None:
        """Returns, unless the controller crashes now.

        Raises:
            Crashed: it does.
        """
        if self.in_turn and self.armed is moment:
            self.armed = None
            raise Crashed(f"crashes {moment.replace('-', ' ')}")
