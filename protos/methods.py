"""Every method and subject of the wire, in one table: what a transport may carry.

A transport looks names up here and carries bytes; it never learns what they mean.
"""

from dataclasses import dataclass
from typing import Final

from protos.limits import CHUNK_BYTES, KIB, MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Method:
    """A question that a device asks of its controller."""

    name: str
    grpc_path: str
    idempotent: bool = True  # asking twice is as asking once
    most_bytes: int = MESSAGE_BYTES  # of a request


METADATA: Final = Method("metadata", "/muster.v1.Device/Metadata")
UPLOAD: Final = Method("upload", "/muster.v1.Device/Upload")
RENEW: Final = Method("renew", "/muster.v1.Device/Renew", idempotent=False)
"""What ``Enrolment`` serves, too: a device whose certificate is good needs no other door."""

REPLY: Final = Method("reply", "/muster.v1.Device/Reply", most_bytes=CHUNK_BYTES + KIB)
"""A piece of the reply to a federated task."""

METHODS: Final = {method.name: method for method in (METADATA, UPLOAD, RENEW, REPLY)}

SESSION_PATH: Final = "/muster.v1.Device/Session"
FETCH_PATH: Final = "/muster.v1.Device/Fetch"

ADMITTED_KEY: Final = "muster-admitted"
"""gRPC: initial metadata of a session whose device the controller takes."""

PROBLEM_KEY: Final = "muster-problem-bin"
"""gRPC: trailing metadata of a refused call, a serialised ``muster.v1.Problem``."""

FACTS: Final = "facts"
"""Subject of a ``DeviceFacts``: what the device is, published whenever a link comes up."""

READINESS: Final = "readiness"
"""Subject of a ``Readiness``: whether the device would train, published when a link comes up and when it changes."""

SUBJECTS: Final = {FACTS: MESSAGE_BYTES, READINESS: 16 * KIB}
"""With the most bytes that a publication may have."""
