"""An exchange over which its coordinator is killed at the n-th call, and runs to their end over it."""

from collections.abc import Callable
from typing import Any

from controller.federated.exchange import Exchange
from simulations.federated.memory_exchange import Ledger, MemoryExchange

CHANGES = {"put_arrays", "post", "close", "finish", "fail", "wait"}


class Killed(BaseException):
    """As kill -9: nothing of ours catches it."""


class MortalExchange:
    """Passes calls on, and raises ``Killed`` in place of the one of that number that changes anything.

    To be killed at a call that only reads is to be killed at the next that does not.
    """

    def __init__(self, ledger: Ledger, lives: int) -> None:
        self._exchange = MemoryExchange(ledger)
        self._lives = lives
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        """Counted, if it changes what is durable, or lets others do so."""
        found = getattr(self._exchange, name)
        if name not in CHANGES:
            return found

        def counted(*args: Any) -> Any:
            self.calls += 1
            if self.calls > self._lives:
                raise Killed
            return found(*args)

        return counted


Drive = Callable[[Exchange], None]


def calls_of(ledger: Ledger, drive: Drive) -> int:
    """Runs to the end; how many calls that took."""
    exchange = MortalExchange(ledger, 1 << 40)
    drive(exchange)
    return exchange.calls


def killed_after(ledger: Ledger, drive: Drive, calls: int, away_ms: int = 0) -> None:
    """Runs until it is killed, and so long afterwards, in a coordinator of its own, to the end."""
    try:
        drive(MortalExchange(ledger, calls))
    except Killed:
        ledger.pass_time(away_ms)
        drive(MemoryExchange(ledger))
