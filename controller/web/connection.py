"""One connection to the API: whoever opens one and asks nothing does not hold it."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 15.0
CONNECTIONS: Final = 1024
"""At once; each holds a file descriptor, which devices' connections need as well."""


class ApiConnection(H11Protocol):
    """Uvicorn's, ended where a request's head takes too long; more than may be are not taken."""

    head_seconds = HEAD_SECONDS
    most = CONNECTIONS
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Waits for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Takes what came."""
        super().data_received(data)
        if self._is_busy and self._late is not None:
            self._late.cancel()

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        super().on_response_complete()
        if not self._is_busy:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    @property
    def _is_busy(self) -> bool:
        """Whether a request's head has come whose answer has not gone."""
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(self.head_seconds, self.transport.abort)
