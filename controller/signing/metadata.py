"""Metadata as bytes and back: parsed within limits, signed through ``Signer``, verified by role."""

from collections.abc import Iterable
from typing import TypeVar

from controller.errors import BadSignature, ConfigError, InvalidInput, TooLarge
from protos.keys import Key, Signature, Signer, UnverifiedSignatureError
from protos.limits import METADATA_BYTES
from protos.tuf import (
    DeserializationError,
    Metadata,
    Root,
    Snapshot,
    Targets,
    Timestamp,
    UnsignedMetadataError,
)

AnySigned = TypeVar("AnySigned", Root, Targets, Snapshot, Timestamp)


def parse(data: bytes, kind: type[AnySigned], what: str) -> Metadata[AnySigned]:
    """The metadata in ``data``; ``what`` names it in messages. Nothing is verified.

    Raises:
        TooLarge, InvalidInput: it is not metadata of that kind.
    """
    limit = METADATA_BYTES[kind.type]
    if len(data) > limit:
        raise TooLarge(f"{what}: {len(data)} bytes; {limit} at most")
    try:
        metadata: Metadata[AnySigned] = Metadata.from_bytes(data)
    except DeserializationError as error:
        raise InvalidInput(f"{what}: not TUF metadata") from error
    if not isinstance(metadata.signed, kind):
        raise InvalidInput(f"{what}: {metadata.signed.type} metadata, where {kind.type} is due")
    return metadata


def sign(signed: AnySigned, signers: Iterable[Signer]) -> bytes:
    """``signed``, with a signature of each of ``signers``.

    Raises:
        ConfigError: a key can't be used.
    """
    metadata = Metadata(signed)
    for signer in signers:
        try:
            metadata.sign(signer, append=True)
        except UnsignedMetadataError as error:
            keyid = signer.public_key.keyid
            raise ConfigError(f"the key {keyid[:12]} can't sign {signed.type}: {error}") from error
    return metadata.to_bytes()


def with_signature(metadata: Metadata[AnySigned], key: Key, sig: bytes) -> bytes:
    """``metadata`` with one verified signature more.

    Raises:
        BadSignature: it is not this key's signature of this metadata.
    """
    signature = Signature(key.keyid, sig.hex())
    try:
        key.verify_signature(signature, metadata.signed_bytes)
    except UnverifiedSignatureError as error:
        raise BadSignature(f"not a signature of the key {key.keyid[:12]}") from error
    metadata.signatures[key.keyid] = signature
    return metadata.to_bytes()


def signers_of(
    delegator: Root | Targets, role: str, metadata: Metadata[AnySigned]
) -> tuple[tuple[str, ...], int]:
    """The key ids that have validly signed ``metadata`` as ``role``, and how many must."""
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return tuple(result.signed), result.threshold


def require_signed(delegator: Root | Targets, role: str, metadata: Metadata[AnySigned]) -> None:
    """Returns if enough of the delegator's keys have signed ``metadata`` as ``role``.

    Raises:
        BadSignature: they have not; says how many have.
    """
    try:
        signed, threshold = signers_of(delegator, role, metadata)
    except ValueError as error:
        raise BadSignature(f"{role}: {error}") from error
    if len(signed) < threshold:
        raise BadSignature(f"{role}: signed by {len(signed)} of the {threshold} keys that must")
