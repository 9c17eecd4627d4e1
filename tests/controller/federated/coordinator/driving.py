"""A whole run over pretended devices, by the driver that its file asks for."""

from controller.federated.coordinator.buffered_driver import BufferedDriver
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.flower import strategy_of
from controller.federated.plan import Plan
from simulations.federated.memory_exchange import Ledger, MemoryExchange
from tests.controller.federated.coordinator.pretend import initial

BUFFERED = {"mode": "buffered", "buffer": 3, "concurrency": 5}
WHOLE = {"before": True, "after": True}


def drive(found: Ledger, how: Plan) -> Ledger:
    """The ledger, with all that came of it."""
    if how.round.mode == "buffered":
        BufferedDriver(MemoryExchange(found), how, initial()).drive()
    else:
        Driver(MemoryExchange(found), how, strategy_of(how, 77), initial()).drive()
    return found
