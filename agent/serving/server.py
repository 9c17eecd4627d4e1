"""The seam to whoever asks for predictions: a server that binds, and one that stops."""

import ipaddress
from collections.abc import Mapping
from typing import Protocol

from agent.errors import ConfigError


class Server(Protocol):
    """One face of the Open Inference Protocol."""

    async def start(self, host: str, port: int) -> int:
        """Answers from now on; returns the port, which is a free one if ``port`` is 0.

        Raises:
            ConfigError: the address can't be bound, or is not of this machine alone.
        """
        ...

    async def stop(self) -> None:
        """Takes no new requests, and returns when those under way are answered."""
        ...


def check_host(host: str, *, allow_remote: bool) -> None:
    """Passes if ``host`` may be bound: a loopback address, or any if ``allow_remote``.

    Raises:
        ConfigError: it may not, or is no address.
    """
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(f"serving.host: {host!r} is not an IP address or localhost") from error
    if not loopback and not allow_remote:
        raise ConfigError(
            f"serving.host: {host} can be reached from other machines, and requests carry no "
            "identity; set serving.allow_remote = true if that is meant"
        )


def told_ports(ports: Mapping[str, int]) -> str:
    """Where they answer, for people: "REST on port 8500, gRPC on 8501"."""
    more = f", gRPC on {ports['grpc']}" if "grpc" in ports else ""
    return f"REST on port {ports['rest']}{more}"
