"""The three doors of a broker: one for each party, each with its own way to show who one is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protos.limits import KIB, MESSAGE_BYTES
from protos.mqtt.topics import Party

PACKET_BYTES: Final = MESSAGE_BYTES + 64 * KIB
"""The largest MQTT packet: what gRPC carries in one message passes here, too, with its seal."""

QUEUED_MESSAGES: Final = 20_000
"""For one client: a fleet's births reach a controller at once, when its broker comes back."""

QUEUED_BYTES: Final = 256 * 1024 * KIB
"""For one client; the first limit that is reached counts."""

INFLIGHT_MESSAGES: Final = 1000
"""To one client, unacknowledged. With few, a controller far away hears no more than those in each
round trip."""

KEEPALIVE_SECONDS: Final = 1200
"""At most: a connection whose other end is gone is noticed after one and a half of these."""

STRANGERS: Final = 200
"""Connections without a certificate at once. They last for a moment each."""


class Door(StrEnum):
    """A listener, by what its files are called."""

    DEVICES = "devices"
    CONTROLLERS = "controllers"
    STRANGERS = "strangers"


PARTIES: Final = {
    Door.DEVICES: Party.DEVICE,
    Door.CONTROLLERS: Party.CONTROLLER,
    Door.STRANGERS: Party.STRANGER,
}
"""Who comes through which door."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the broker listens. The controllers' port need not be reachable for anybody else."""

    devices: int = 8883
    controllers: int = 8884
    strangers: int = 8885

    def of(self, door: Door) -> int:
        """The door's port."""
        return {
            Door.DEVICES: self.devices,
            Door.CONTROLLERS: self.controllers,
            Door.STRANGERS: self.strangers,
        }[door]
