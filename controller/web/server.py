"""Serves an ASGI application over TLS on a thread of its own.

Operators' requests then never wait for devices, nor devices for them; and uvicorn, which takes over
the signals of a main thread, leaves ours alone.
"""

import asyncio
import logging
import socket
import threading
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from controller.errors import ConfigError
from controller.web.connection import ApiConnection

GRACE_SECONDS: Final = 5


log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, listens: threading.Event) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listens.set()


class WebServer:
    """One uvicorn server."""

    def __init__(self, application: FastAPI, certificate: Path) -> None:
        """``certificate`` holds the certificate and its key, PEM."""
        self._application = application
        self._certificate = certificate
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._settled = threading.Event()
        self._failure = ""

    async def start(self, host: str, port: int) -> int:
        """Returns once it serves: the port (which is chosen if it was 0).

        Raises:
            ConfigError: the address is taken, or is none of this machine's; or the certificate can't
                be used.
        """
        config = uvicorn.Config(
            self._application,
            host=host,
            port=port,
            ssl_certfile=str(self._certificate),
            lifespan="off",
            http=ApiConnection,
            ws="none",
            loop="asyncio",  # whatever else is installed: Flower brings uvloop and websockets
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        try:
            listening = config.bind_socket()
        except SystemExit as error:  # how uvicorn says that it can't
            raise ConfigError(f"{host}:{port}: it can't be served on: is it in use?") from error
        listening.listen(config.backlog)  # who connects before the thread runs waits for it
        self._server = _Server(config, self._settled)
        self._thread = threading.Thread(
            target=self._serve, args=(self._server, listening), name="web", daemon=True
        )
        self._thread.start()
        await asyncio.to_thread(self._settled.wait)
        if not self._server.started:
            listening.close()
            raise ConfigError(f"{self._certificate}: the API can't be served: {self._failure}")
        return int(listening.getsockname()[1])

    def _serve(self, server: uvicorn.Server, listening: socket.socket) -> None:
        try:
            server.run(sockets=[listening])
        except (OSError, RuntimeError, SystemExit) as error:
            self._failure = str(error) or type(error).__name__
        finally:
            self._settled.set()
            if server.started and not server.should_exit:
                log.critical("web.ended reason=%s", self._failure or "unknown")

    async def stop(self) -> None:
        """Ends when the requests that are under way have, or after a grace. May be called twice."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            await asyncio.to_thread(self._thread.join, 2 * GRACE_SECONDS)
