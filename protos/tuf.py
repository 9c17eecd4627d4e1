"""TUF metadata as python-tuf defines it; the one place that names where its classes are."""

# The module re-exports the classes without ``__all__``, which strict typing does not follow.
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

__all__ = [
    "DelegatedRole",
    "Delegations",
    "DeserializationError",
    "MetaFile",
    "Metadata",
    "Role",
    "Root",
    "Snapshot",
    "TargetFile",
    "Targets",
    "Timestamp",
    "UnsignedMetadataError",
]
