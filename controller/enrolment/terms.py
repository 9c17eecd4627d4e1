"""On what terms machines become devices here: what the actions of this feature need to know."""

from dataclasses import dataclass
from datetime import timedelta

from agent.identity.expiry import GRACE
from controller.enrolment.authority import DEVICE_LIFETIME, KeyPair


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
    """

    device_authority: KeyPair
    server_ca_pem: bytes
    root_metadata: bytes
    enrolment_address: str
    session_address: str
    lifetime: timedelta = DEVICE_LIFETIME
    grace: timedelta = GRACE
