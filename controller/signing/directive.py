"""What one device shall run now, as a signed document."""

from collections.abc import Iterable
from datetime import datetime

from controller.registry.version import Version
from protos.documents import Assignment, Directive
from protos.envelope import seal
from protos.keys import Signer
from protos.manifest import target_path


def assignment(version: Version, slot: str = "champion", rollout: str = "") -> Assignment:
    """``version`` for a slot: its path, digest and length are those that approvers signed for."""
    return Assignment(
        model=version.model,
        version=version.version,
        target=target_path(version.model, version.version),
        sha256=version.manifest_sha256,
        length=len(version.manifest),
        slot=slot,
        rollout=rollout,
    )


def directive(
    device: str, generation: int, assignments: Iterable[Assignment], now: datetime
) -> Directive:
    """Everything that ``device`` shall run; ``generation`` must be higher than any before it."""
    ordered = sorted(assignments, key=lambda one: (one.model, one.slot))
    return Directive(
        device=device,
        generation=generation,
        issued_at=int(now.timestamp()),
        assignments=tuple(ordered),
    )


def signed(document: Directive, director: Signer) -> bytes:
    """The serialised envelope that a device takes as its directive."""
    return seal(document, director)
