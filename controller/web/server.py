"""Serves an ASGI application over TLS on a thread of its own.

Operators' requests then never wait for devices, nor devices for them; and uvicorn, which takes over
the signals of a main thread, leaves ours alone.
"""

import asyncio
import threading
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from controller.errors import ConfigError
from controller.web.connection import ApiConnection

GRACE_SECONDS: Final = 5


class WebServer:
    """One uvicorn server."""

    def __init__(self, application: FastAPI, certificate: Path) -> None:
        """``certificate`` holds the certificate and its key, PEM."""
        self._application = application
        self._certificate = certificate
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    async def start(self, host: str, port: int) -> int:
        """Begins to serve; returns the port (which is chosen if it was 0).

        Raises:
            ConfigError: the address is taken, or is none of this machine's.
        """
        config = uvicorn.Config(
            self._application,
            host=host,
            port=port,
            ssl_certfile=str(self._certificate),
            lifespan="off",
            http=ApiConnection,
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
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="web", daemon=True
        )
        self._thread.start()
        return int(listening.getsockname()[1])

    async def stop(self) -> None:
        """Ends when the requests that are under way have, or after a grace. May be called twice."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            await asyncio.to_thread(self._thread.join, 2 * GRACE_SECONDS)
