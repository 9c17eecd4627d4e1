"""The inputs of answered requests, in memory until their truth is told or they are too old."""

from collections import OrderedDict
from dataclasses import dataclass

from agent.federated.layout import Array, Layout
from protos.limits import MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is remembered, and for how long."""

    requests: int = 1000
    size: int = 16 * MIB
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request.

    Attributes:
        version: that answered it.
        layout: of ``rows``.
        rows: its inputs, packed; their truth is not known yet.
        at: when it was answered, in Unix seconds.
    """

    version: int
    layout: Layout
    rows: Array
    at: float


class Remembered:
    """The latest requests by model and id, the oldest first. Not guarded: who shares it holds a lock.

    An id that comes again stands for the later request.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._requests: OrderedDict[tuple[str, str], Request] = OrderedDict()
        self._size = 0

    def put(self, model: str, request_id: str, request: Request) -> None:
        """Remembers it, and forgets what is beyond the limits."""
        self._forget((model, request_id))
        if request.rows.nbytes > self._limits.size:
            return
        self._requests[model, request_id] = request
        self._size += request.rows.nbytes
        self.expire(request.at)
        while len(self._requests) > self._limits.requests or self._size > self._limits.size:
            self._forget(next(iter(self._requests)))

    def get(self, model: str, request_id: str) -> Request | None:
        """The request of that id; None if it is not remembered."""
        return self._requests.get((model, request_id))

    def expire(self, now: float) -> None:
        """Forgets what is too old."""
        while self._requests:
            key, oldest = next(iter(self._requests.items()))
            if oldest.at >= now - self._limits.seconds:
                return
            self._forget(key)

    def __len__(self) -> int:
        """How many requests are remembered."""
        return len(self._requests)

    def _forget(self, key: tuple[str, str]) -> None:
        gone = self._requests.pop(key, None)
        if gone is not None:
            self._size -= gone.rows.nbytes
