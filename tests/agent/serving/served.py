"""Where the servers under test are."""

from dataclasses import dataclass

from agent.serving.rest_server import RestServer
from tests.agent.hosting import Host


@dataclass(frozen=True)
class Served:
    host: Host
    rest: RestServer
    rest_port: int
    grpc_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"
