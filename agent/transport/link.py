"""The seam between the agent and whatever carries its bytes.

A ``Link`` is one live connection of one enrolled device. It never retries: loops retry, because only
they know whether it still matters. It speaks bytes: what they mean is ``controller_client``'s.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from protos.v1 import enrolment_pb2


class Link(Protocol):
    """One live connection to the controller.

    Every method raises ``TransportError`` when no answer came and ``Refused`` when the controller
    answered no; nothing else.
    """

    async def call(self, method: str, request: bytes) -> bytes:
        """The controller's answer to a method of ``protos.methods``."""
        ...

    def fetch(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from ``offset`` on, in order. The receiver checks length and digest.

        Who ends before they do closes it, so that no more of them come.
        """
        ...

    async def publish(self, subject: str, payload: bytes) -> None:
        """Returns once the other end has it: at least once, so it must be idempotent."""
        ...

    def commands(self) -> AsyncIterator[bytes]:
        """Serialised ``muster.v1.Command``s as they come; raises when the connection is cut."""
        ...

    async def close(self) -> None:
        """Ends the connection. May be called twice."""
        ...


class Dialer(Protocol):
    """Makes links."""

    async def dial(self) -> Link:
        """A link that is up: the controller has accepted the device.

        From here on the controller may end an older link of the device, over whatever transport.

        Raises:
            TransportError: nobody answered in time, or who answered is not the controller.
            Refused: the controller itself has said that it does not want this device (revoked, unknown,
                expired). Then no other route is tried: what only a proxy or a broker says is none.
        """
        ...


class Enrolment(Protocol):
    """What a device asks before it has a certificate, or when it has expired.

    Every method raises ``TransportError`` when no answer came, ``Refused`` when the controller
    answered no, and ``WrongController`` when who answered is not the one that was pinned.
    """

    async def join(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        """An identity for a join token."""
        ...

    async def renew(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        """A new certificate for a device that proves that it holds its key."""
        ...


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a controller is asked without a certificate, and who is believed to be it.

    Attributes:
        address: host:port of its enrolment service.
        server_ca_pem: its pinned CA, over every transport.
        broker: host:port of a broker's listener for strangers; empty where none is known.
        broker_ca_pem: of the CAs that have issued the broker's certificate.
    """

    address: str
    server_ca_pem: bytes
    broker: str = ""
    broker_ca_pem: bytes = b""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways to ask it: the transport's name, host:port, and who asks there."""

    transport: str
    address: str
    enrolment: Enrolment


EnrolmentDialer = Callable[[Contact], Sequence[Way]]
"""The ways to ask that controller, the preferred one first; raises ``ConfigError`` if there is none."""
