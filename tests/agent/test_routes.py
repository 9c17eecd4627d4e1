"""The ways to the controller that an agent takes, from its configuration and its identity."""

from pathlib import Path

import pytest

from agent.app import routes_of
from agent.config import AgentConfig, Connecting
from agent.errors import ConfigError
from agent.home import Home
from agent.store.device_store import Identity
from agent.transport.grpc_link import GrpcDialer
from agent.transport.route import Route


def routes(folder: Path, session_address: str, *transports: str) -> list[Route]:
    identity = Identity("cam-1", b"", b"", session_address, "controller:8444", b"")
    config = AgentConfig(connecting=Connecting(transports=transports))
    return routes_of(Home(folder), config, identity, b"", lambda: b"")


def test_a_transport_without_an_address_is_left_out(tmp_path: Path) -> None:
    found = routes(tmp_path, "controller:8443", "mqtt", "grpc")

    assert [route.name for route in found] == ["grpc"]
    assert isinstance(found[0].dialer, GrpcDialer)


@pytest.mark.parametrize(
    ("address", "transports", "missing"),
    [
        ("controller:8443", ("mqtt",), "mqtt"),
        ("", ("grpc",), "grpc"),
        ("", ("grpc", "mqtt"), "grpc or mqtt"),
    ],
)
def test_a_device_without_any_address_is_told_in_words(
    tmp_path: Path, address: str, transports: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        routes(tmp_path, address, *transports)

    assert caught.value.detail == (
        f"{tmp_path / 'agent.toml'}: [connecting] transports: "
        f"this device knows no address for {missing}"
    )
