"""Signs and opens documents: DSSE envelopes over securesystemslib keys.

Whether a key is a file, an HSM or a KMS is the signer's business (``securesystemslib.signer``).
"""

from collections.abc import Sequence

from google.protobuf.message import DecodeError
from securesystemslib.dsse import Envelope as Dsse
from securesystemslib.exceptions import VerificationError

from protos.documents import AnyDocument, Document, canonical, decode
from protos.errors import DocumentError
from protos.keys import Key, Signature, Signer
from protos.limits import ENVELOPE_BYTES
from protos.v1 import common_pb2


def seal(document: Document, signer: Signer) -> bytes:
    """A serialised ``muster.v1.Envelope`` of ``document`` with one signature."""
    dsse = Dsse(canonical(document), document.payload_type, {})
    signature = dsse.sign(signer)
    return common_pb2.Envelope(
        payload=dsse.payload,
        payload_type=dsse.payload_type,
        signatures=[
            common_pb2.Signature(keyid=signature.keyid, sig=bytes.fromhex(signature.signature))
        ],
    ).SerializeToString()


def unseal(
    data: bytes, kind: type[AnyDocument], keys: Sequence[Key], threshold: int = 1
) -> AnyDocument:
    """The document in the envelope ``data``, once ``threshold`` of ``keys`` have signed it.

    Raises:
        DocumentError: ``too-large``, ``malformed``, ``wrong-type`` or ``bad-signature``.
    """
    if len(data) > ENVELOPE_BYTES:
        raise DocumentError(
            "too-large", f"an envelope of {len(data)} bytes; {ENVELOPE_BYTES} at most"
        )
    try:
        envelope = common_pb2.Envelope.FromString(data)
    except DecodeError as error:
        raise DocumentError("malformed", "not an envelope") from error
    if envelope.payload_type != kind.payload_type:
        raise DocumentError(
            "wrong-type", f"a {envelope.payload_type!r}, where {kind.payload_type!r} is due"
        )
    signatures = {one.keyid: Signature(one.keyid, one.sig.hex()) for one in envelope.signatures}
    dsse = Dsse(envelope.payload, envelope.payload_type, signatures)
    try:
        dsse.verify(list(keys), threshold)
    except (VerificationError, ValueError) as error:
        raise DocumentError("bad-signature", f"{kind.__name__.lower()}: {error}") from error
    return decode(envelope.payload, kind)


def peek(data: bytes, kind: type[AnyDocument]) -> AnyDocument:
    """The document in an envelope whose signatures were verified when it was stored.

    Raises:
        DocumentError: ``malformed``.
    """
    try:
        payload = common_pb2.Envelope.FromString(data).payload
    except DecodeError as error:
        raise DocumentError("malformed", "not an envelope") from error
    return decode(payload, kind)
