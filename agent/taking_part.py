"""Whether this device learns, and takes part in federated runs: what the agent sees of it."""

import contextlib
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from agent.around import Around
from agent.serving.collecting import NOTHING, Collecting
from agent.serving.exposition import Family
from protos.v1 import federated_pb2

log = logging.getLogger(__name__)


class TakingPart(Protocol):
    """What a device does with examples. Call it on the event loop's thread."""

    @property
    def collector(self) -> Collecting:
        """For whoever answers requests."""
        ...

    def loops(self) -> Sequence[Coroutine[Any, Any, Any]]:
        """To be run beside the agent's others."""
        ...

    def take(self, order: federated_pb2.FederatedOrder) -> None:
        """What the controller orders."""
        ...

    def link_up(self) -> None:
        """A new link is there."""
        ...

    def wake(self) -> None:
        """What answers here may have changed."""
        ...

    def measured(self) -> Sequence[Family]:
        """What Prometheus is told of it. Call it on a thread. Raises nothing."""
        ...

    async def rest(self) -> None:
        """Notes that the agent ends because it was asked to. Raises nothing."""
        ...


class NotTakingPart:
    """See ``TakingPart``: the owner of the device does not want it."""

    collector: Collecting = NOTHING

    def loops(self) -> Sequence[Coroutine[Any, Any, Any]]:
        """None."""
        return ()

    def take(self, order: federated_pb2.FederatedOrder) -> None:
        """Nothing is done: the controller was not told that it might ask."""
        log.info("federated.not-for-us task=%.80s", order.task.task_id)

    def link_up(self) -> None:
        """Nothing."""

    def wake(self) -> None:
        """Nothing."""

    def measured(self) -> Sequence[Family]:
        """Nothing."""
        return ()

    async def rest(self) -> None:
        """Nothing."""


def taking_part(around: Around) -> TakingPart:
    """As agent.toml has it; a device that keeps no examples does not even load the rest.

    Raises:
        StoreTooNew, DiskFull, StoreError: the examples can't be opened.
    """
    settings = around.config.training
    if not (settings.collect and settings.take_part):
        with contextlib.suppress(OSError):
            around.home.training.unlink(missing_ok=True)  # what `status` was told before
    if not settings.collect:
        return NotTakingPart()
    from agent.training import Training  # noqa: PLC0415 - see above

    return Training(around)
