"""TLS to a broker, as paho needs it: it looks after its sockets less than one would wish."""

import os
import ssl
from typing import Final

from protos.limits import MESSAGE_BYTES
from protos.mqtt.broker import Broker

HANDSHAKE_SECONDS: Final = 15.0
PACKET_BYTES: Final = MESSAGE_BYTES + 64 * 1024
"""Largest packet that we ask the broker to send."""


def tls_context(broker: Broker) -> ssl.SSLContext:
    """TLS 1.2 or newer, with the broker's CA and our certificate."""
    context = ssl.create_default_context(cadata=broker.ca_pem.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _TidySocket
    if broker.key_pem:
        # Python's ssl reads keys from files only: one in memory, which nobody else can open.
        descriptor = os.memfd_create("muster-broker", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(broker.key_pem + broker.certificate_pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


class _TidySocket(ssl.SSLSocket):
    """Closes itself where it comes to no connection: paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        """Shakes hands, within ``HANDSHAKE_SECONDS``."""
        self.settimeout(HANDSHAKE_SECONDS)
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As any socket's; but paho asks for all of a packet, and takes what it was not to be sent."""
        if buflen > PACKET_BYTES:
            raise ConnectionAbortedError("the broker sends more than it was asked to send at once")
        return super().recv(buflen, flags)
