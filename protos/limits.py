"""Sizes and bounds that both sides enforce before they parse."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# TUF metadata, by role: the client workflow's caps against endless data (spec 5.3.3 and on).
METADATA_BYTES: Final = {
    "root": 512 * KIB,
    "timestamp": 16 * KIB,
    "snapshot": 2 * MIB,
    "targets": 5 * MIB,  # every targets role, delegated or not
}
MANIFEST_BYTES: Final = 1 * MIB
ENVELOPE_BYTES: Final = 1 * MIB
MESSAGE_BYTES: Final = 8 * MIB  # one gRPC message, either way
CHUNK_BYTES: Final = 256 * KIB  # one piece of a blob on the wire
BLOB_BYTES: Final = 2048 * MIB
UPLOAD_RECORDS: Final = 512
UPLOAD_BYTES: Final = 4 * MIB
INFER_BYTES: Final = 64 * MIB  # one inference request

# Upper bounds of the latency histogram; a last bucket takes the rest. Powers of two from 16 µs
# to 33.5 s: the relative error of a quantile is the same everywhere.
LATENCY_BUCKETS_SECONDS: Final = tuple(16e-6 * 2**i for i in range(22))

MODEL_NAME: Final = r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?"
"""Model names: what is safe as a file name, in a URL, in an MQTT topic and as a DNS label."""


def metadata_limit(name: str) -> int:
    """The most bytes that a metadata file, ``ROLE.json`` or ``VERSION.ROLE.json``, may have."""
    role = name.removesuffix(".json").rpartition(".")[2]
    return METADATA_BYTES.get(role, METADATA_BYTES["targets"])
