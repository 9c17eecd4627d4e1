"""Messages that a broker can neither read nor forge: signed by who says it, sealed to who shall read.

Sealed with HPKE (RFC 9180; base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305), single-shot: no
session is kept on either side, so that any controller can read what a device says. Who says it is
known by the signature inside. A message that comes twice is the receiver's to notice.
"""

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from google.protobuf.message import DecodeError, Message

from protos.errors import DocumentError
from protos.keys import Key, Signature, Signer, UnverifiedSignatureError
from protos.v1 import mqtt_pb2

SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
VERSION: Final = b"\x01"
"""First byte of what is sealed: another suite would be another number."""

UP: Final = b"muster.v1 to controllers"
ENROLMENT: Final = b"muster.v1 to controllers, enrolment"
"""Purposes: what was sealed for one can't be opened for another. Down it is ``to_device``."""

AnyMessage = TypeVar("AnyMessage", bound=Message)


def to_device(device: str) -> bytes:
    """The purpose of what is sealed for that device; empty for a machine that is none yet."""
    return b"muster.v1 to device " + device.encode()


def seal(data: bytes, to: bytes, purpose: bytes) -> bytes:
    """``data`` for the holder of the X25519 key ``to`` alone.

    Raises:
        DocumentError: ``bad-key``: it is no key.
    """
    try:
        key = X25519PublicKey.from_public_bytes(to)
        return VERSION + SUITE.encrypt(data, key, purpose)
    except ValueError as error:
        raise DocumentError("bad-key", "not an X25519 public key") from error


def unseal(data: bytes, key: X25519PrivateKey, purpose: bytes) -> bytes:
    """What was sealed to the key for that purpose.

    Raises:
        DocumentError: ``not-for-us``.
    """
    if data[:1] != VERSION:
        raise DocumentError("not-for-us", "not a sealed message of this version")
    try:
        return SUITE.decrypt(data[1:], key, purpose)
    except (InvalidTag, ValueError) as error:
        raise DocumentError("not-for-us", "sealed to another, or altered") from error


def sign(message: Message, signer: Signer) -> bytes:
    """A serialised ``SignedMessage`` of the message."""
    payload = message.SerializeToString()
    signature = signer.sign(_signed(type(message), payload))
    return mqtt_pb2.SignedMessage(
        payload=payload, signature=bytes.fromhex(signature.signature)
    ).SerializeToString()


@dataclass(frozen=True, slots=True)
class Claim(Generic[AnyMessage]):
    """A message that says who has signed it; ``check`` finds out."""

    message: AnyMessage
    payload: bytes
    signature: bytes

    def check(self, key: Key) -> AnyMessage:
        """The message, once the key has signed it.

        Raises:
            DocumentError: ``bad-signature``.
        """
        signature = Signature(key.keyid, self.signature.hex())
        try:
            key.verify_signature(signature, _signed(type(self.message), self.payload))
        except UnverifiedSignatureError as error:
            raise DocumentError("bad-signature", "the signature does not hold") from error
        return self.message


def claim(data: bytes, kind: type[AnyMessage]) -> Claim[AnyMessage]:
    """What a serialised ``SignedMessage`` claims.

    Raises:
        DocumentError: ``malformed``.
    """
    try:
        signed = mqtt_pb2.SignedMessage.FromString(data)
        message = kind()
        message.ParseFromString(signed.payload)
    except DecodeError as error:
        raise DocumentError("malformed", f"not a signed {kind.DESCRIPTOR.name}") from error
    return Claim(message, signed.payload, signed.signature)


def _signed(kind: type[Message], payload: bytes) -> bytes:
    """What is signed names its kind: a signature over one can't pass for one over another."""
    return kind.DESCRIPTOR.full_name.encode() + b"\x00" + payload
