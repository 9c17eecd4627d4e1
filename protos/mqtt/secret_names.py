"""Names at the broker that nobody can guess: client ids, and the group of a shared subscription.

Whoever connects with a client's id takes its session over, through whichever listener, and a broker
that checks what is delivered but not what is subscribed to (Mosquitto) lets anybody join the group
in which each message goes to one member. So these names are secrets of who holds a private key; only
the broker gets to know them. The same key always has the same names: nothing needs to be kept.
"""

import base64
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

BYTES: Final = 20


def secret_name(key_pem: bytes, purpose: str) -> str:
    """A name of 32 letters and digits that only who has the private key can tell.

    ``purpose`` keeps the names of one key apart: "client id", "group".

    Raises:
        ValueError: it is no private key in PEM.
    """
    key = serialization.load_pem_private_key(key_pem, None)
    secret = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    derived = HKDF(hashes.SHA256(), BYTES, salt=None, info=f"muster mqtt {purpose}".encode())
    return base64.b32encode(derived.derive(secret)).decode().lower()
