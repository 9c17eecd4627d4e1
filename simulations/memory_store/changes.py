"""Which devices have changed, in memory."""

from controller.store.rollout_tables import Changed
from simulations.memory_store.fleet import MemoryDevices
from simulations.memory_store.noted import Noted
from simulations.memory_store.rollouts import MemoryRollouts
from simulations.memory_store.stages import MemoryStages


class MemoryChanges:
    """``controller.store.store.Changes``."""

    def __init__(
        self, noted: Noted, devices: MemoryDevices, rollouts: MemoryRollouts, stages: MemoryStages
    ) -> None:
        self._noted = noted
        self._devices, self._rollouts, self._stages = devices, rollouts, stages

    def since(self, revision: int) -> Changed:  # noqa: D102 - see the Protocol
        ids = self._noted.since(revision)
        return Changed(
            ids,
            self._noted.revision,
            [known for one in ids if (known := self._devices.get(one)) is not None],
            [row for one in ids for row in self._rollouts.wanted(one)],
            [slot for one in ids for slot in self._devices.slots(one)],
            [member for one in ids for member in self._stages.members_of(one)],
        )
