"""Serves REST with uvicorn's HTTP protocol on the agent's own event loop.

Uvicorn's ``Server`` is left out: it takes over signals, and wakes ten times a second to see whether
it shall stop and what the date is.
"""

import asyncio
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from agent.errors import ConfigError
from agent.serving.collecting import NOTHING, Collecting
from agent.serving.description import Hosting
from agent.serving.exposition import Measured, nothing
from agent.serving.rest import RestApplication
from agent.serving.server import check_host
from agent.serving.workers import Workers
from protos.limits import INFER_BYTES

BACKLOG: Final = 128
KEEP_ALIVE_SECONDS: Final = 75
STOP_SECONDS: Final = 10.0


class RestServer:
    """The REST face; see ``agent.serving.server.Server``."""

    def __init__(
        self,
        hosting: Hosting,
        workers: Workers,
        *,
        allow_remote: bool = False,
        limit: int = INFER_BYTES,
        collecting: Collecting = NOTHING,
        measured: Measured = nothing,
    ) -> None:
        self._allow_remote = allow_remote
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        application = RestApplication(
            hosting,
            workers,
            limit,
            any_host=allow_remote,
            collecting=collecting,
            measured=measured,
        )
        self._config = Config(
            cast("Any", application),
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._config.load()

    async def start(self, host: str, port: int) -> int:
        """Answers from now on; returns the port.

        Raises:
            ConfigError: the address can't be bound, or is not of this machine alone.
        """
        check_host(host, allow_remote=self._allow_remote)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: H11Protocol(self._config, self._state, {}, loop),
                "127.0.0.1" if host == "localhost" else host,
                port,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise ConfigError(f"serving.rest_port: {host}:{port}: {error.strerror}") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Takes no new requests, and returns when those under way are answered."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=STOP_SECONDS)
        for connection in list(self._state.connections):
            connection.transport.close()
        await self._server.wait_closed()
        self._server = None
