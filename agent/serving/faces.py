"""The faces of the Open Inference Protocol that this device shows, as its configuration has them."""

from collections.abc import Mapping

from agent.config import Serving
from agent.serving.collecting import NOTHING, Collecting
from agent.serving.description import Hosting
from agent.serving.exposition import Measured, nothing
from agent.serving.rest_server import RestServer
from agent.serving.server import Server
from agent.serving.workers import Workers


class Faces:
    """All of them: they start and stop together."""

    def __init__(
        self,
        hosting: Hosting,
        workers: Workers,
        serving: Serving,
        collecting: Collecting = NOTHING,
        measured: Measured = nothing,
    ) -> None:
        self._serving = serving
        remote = serving.allow_remote
        self._servers: dict[str, Server] = {
            "rest": RestServer(
                hosting, workers, allow_remote=remote, collecting=collecting, measured=measured
            )
        }
        if serving.grpc:
            from agent.serving.grpc_server import GrpcServer  # noqa: PLC0415 - 10 MiB, if not used

            self._servers["grpc"] = GrpcServer(
                hosting, workers, allow_remote=remote, collecting=collecting
            )

    async def start(self) -> Mapping[str, int]:
        """They answer from now on; returns the port of each.

        Raises:
            ConfigError: an address can't be bound, or is not of this machine alone.
        """
        wanted = {"rest": self._serving.rest_port, "grpc": self._serving.grpc_port}
        return {
            name: await server.start(self._serving.host, wanted[name])
            for name, server in self._servers.items()
        }

    async def stop(self) -> None:
        """Takes no new requests, and returns when those under way are answered."""
        for server in self._servers.values():
            await server.stop()
