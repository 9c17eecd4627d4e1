"""Every way to devices and from them, as the configuration has it: gRPC, and a broker if there is one."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from agent.clock import Clock
from controller.config import ControllerConfig
from controller.desk import DeviceDesk
from controller.home import Home, broker_authority
from controller.rollout.loop import AT_ONCE, directive_command
from controller.store.certificate_files import Certificates
from controller.store.sealing_file import open_sealing_key
from controller.store.store import Store
from controller.transport.courier import Endpoint
from controller.transport.grpc.enrolment_server import EnrolmentServer
from controller.transport.grpc.server import GrpcServer
from controller.transport.mqtt.loop import MqttBridge, Posts
from controller.transport.mqtt.voice import ControllerSeal
from controller.transport.sessions import Sessions
from protos.mqtt.broker import Broker


class Transports:
    """All of them, with one book of links."""

    def __init__(
        self,
        home: Home,
        config: ControllerConfig,
        certificates: Certificates,
        desk: DeviceDesk,
        store: Store,
        clock: Clock,
    ) -> None:
        """Raises ``ConfigError`` where a file can't be used."""
        endpoint = desk.dispatch()
        device_ca_pem = certificates.device_authority.certificate_pem
        self.sessions = Sessions(endpoint)
        desk.linked = self.sessions.has
        self._listening = config.listening
        self._devices = GrpcServer(endpoint, self.sessions, certificates.server, device_ca_pem)
        self._enrolments = EnrolmentServer(desk.join, desk.renew, certificates.server)
        standing = partial(standing_directives, store)
        self._bridge = bridge_of(
            home, config, certificates, endpoint, self.sessions, standing, clock
        )
        if self._bridge is not None:
            self._bridge.serve_strangers(desk.join, desk.renew)

    async def start(self) -> None:
        """Begins to serve.

        Raises:
            ConfigError: an address is taken, or is none of this machine's.
        """
        listening = self._listening
        host = f"[{listening.host}]" if ":" in listening.host else listening.host
        await self._devices.start(f"{host}:{listening.session_port}")
        await self._enrolments.start(f"{host}:{listening.enrolment_port}")

    async def run(self) -> None:
        """Stays at the broker, if there is one, until cancelled."""
        if self._bridge is not None:
            await self._bridge.run()

    async def stop(self) -> None:
        """Cuts every link; returns when all departures have been told."""
        await self._enrolments.stop()
        await self._devices.stop()


def bridge_of(
    home: Home,
    config: ControllerConfig,
    certificates: Certificates,
    endpoint: Endpoint,
    sessions: Sessions,
    standing: Callable[[], Posts],
    clock: Clock,
) -> MqttBridge | None:
    """The way to devices through a broker; None if none is configured.

    Raises:
        ConfigError: a file can't be used.
    """
    if not config.mqtt.broker:
        return None
    return MqttBridge(
        endpoint,
        sessions,
        broker_of(home, config, certificates),
        ControllerSeal(certificates.server, open_sealing_key(home.sealing_key)),
        certificates.device_authority.certificate_pem,
        clock,
        standing,
        config.mqtt.keepalive_seconds,
    )


def broker_of(home: Home, config: ControllerConfig, certificates: Certificates) -> Broker:
    """Where the controllers' listener of the broker is, and what to show it.

    Raises:
        ConfigError: the file of its CA can't be used.
    """
    client = certificates.broker_client
    ca_pem = broker_authority(home, config, certificates)
    return Broker(config.mqtt.broker, ca_pem, client.certificate_pem, client.key_pem)


async def standing_directives(store: Store) -> Posts:
    """(device, command) of every device's newest directive, some at a time.

    Raises:
        StoreError: they can't be read.
    """

    def told() -> list[str]:
        with store.read() as tx:
            return [one.device for one in tx.rollouts.newest_directives()]

    def commands(devices: Sequence[str]) -> list[tuple[str, bytes]]:
        with store.read() as tx:
            newest = [tx.rollouts.directive(device) for device in devices]
        return [(one.device, directive_command(one)) for one in newest if one is not None]

    devices = await asyncio.to_thread(told)
    for first in range(0, len(devices), AT_ONCE):
        # Read again: what was signed meanwhile must not be followed by an older one.
        yield await asyncio.to_thread(commands, devices[first : first + AT_ONCE])
