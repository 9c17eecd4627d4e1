"""The seam between the controller and whatever carries its bytes: the mirror of ``Link``.

A transport is a ``Courier`` to the controller's loops, and asks an ``Endpoint`` for every answer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from protos.v1 import enrolment_pb2


class Courier(Protocol):
    """Brings commands to devices that have a live link."""

    async def send(self, device: str, command: bytes) -> None:
        """Hands a serialised ``muster.v1.Command`` to the link. Level-triggered: may be lost.

        Raises:
            DeviceOffline: there is no live link.
        """
        ...

    def connected(self) -> frozenset[str]:
        """Devices with a live link to this controller."""
        ...

    async def disconnect(self, device: str) -> None:
        """Cuts the device's link, and whatever it is being sent. Harmless if there is none."""
        ...


class Endpoint(Protocol):
    """What a transport asks of the controller. The device is already authenticated."""

    async def admit(self, device: str, certificate_serial: str) -> None:
        """Returns if the device may connect.

        Raises:
            DeviceUnknown, DeviceRevoked: it may not.
        """
        ...

    async def connected(self, device: str) -> None:
        """A link has come up: the device is sent what it must know."""
        ...

    async def disconnected(self, device: str) -> None:
        """The device's last link has gone."""
        ...

    async def call(self, device: str, method: str, request: bytes) -> bytes:
        """The answer to a method of ``protos.methods``.

        Raises:
            ControllerError: refused.
        """
        ...

    def fetch(
        self, device: str, sha256: str, offset: int, have: Sequence[str]
    ) -> AsyncIterator[bytes]:
        """The blob from ``offset`` on.

        Raises:
            NotFound: there is no such blob.
        """
        ...

    async def publish(self, device: str, subject: str, payload: bytes) -> None:
        """Takes what a device says. Returns when it may be acknowledged."""
        ...


Join = Callable[[enrolment_pb2.JoinRequest], Awaitable[enrolment_pb2.JoinReply]]
Renew = Callable[[enrolment_pb2.RenewRequest], Awaitable[enrolment_pb2.RenewReply]]
"""What a transport asks for machines without a certificate; both raise ``ControllerError`` to refuse."""
