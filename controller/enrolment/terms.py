"""On what terms machines become devices here: what the actions of this feature need to know."""

from dataclasses import dataclass
from datetime import timedelta

from agent.identity.expiry import GRACE
from controller.enrolment.authority import DEVICE_LIFETIME, KeyPair
from protos.v1 import enrolment_pb2


@dataclass(frozen=True, slots=True)
class BrokerTerms:
    """Where devices find the broker.

    Attributes:
        address: host:port of its devices' listener.
        enrolment_address: host:port of its strangers' listener; empty: nobody joins over it.
        ca_pem: of the CAs, mostly one, that have issued its certificate.
    """

    address: str
    enrolment_address: str
    ca_pem: bytes

    def rendezvous(self) -> enrolment_pb2.Rendezvous:
        """As devices are told."""
        return enrolment_pb2.Rendezvous(
            address=self.address, enrolment_address=self.enrolment_address, ca_pem=self.ca_pem
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose certificates, for how long, and where to.

    Attributes:
        device_authority: signs devices' certificates.
        server_ca_pem: what devices pin.
        root_metadata: the TUF root that join tokens pin and devices are given.
        enrolment_address: host:port, as devices reach it.
        session_address: host:port, as devices reach it.
        lifetime: of a device's certificate.
        grace: how long after its expiry a certificate may still be renewed.
        broker: through which devices reach it, too; None if there is none.
    """

    device_authority: KeyPair
    server_ca_pem: bytes
    root_metadata: bytes
    enrolment_address: str
    session_address: str
    lifetime: timedelta = DEVICE_LIFETIME
    grace: timedelta = GRACE
    broker: BrokerTerms | None = None
