"""What python-tuf's exceptions mean to us: which attack it would be, by its code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
)

from agent.errors import (
    AgentError,
    BadSignature,
    ExpiredMetadata,
    MalformedDocument,
    MixAndMatch,
    NotListed,
    RollbackAttack,
    TooFewApprovals,
    TransportError,
)
from agent.trust.growth import NAME_OF_MODEL
from agent.trust.state import ROOT, SNAPSHOT, TARGETS
from protos.tuf import (
    DeserializationError,
    Metadata,
    Snapshot,
    Targets,
    UnsignedMetadataError,
)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an exception came up.

    Attributes:
        asked: the last file that was asked for, "7.models-digits.json".
        answer: what came.
        files: the files that are trusted by now.
    """

    asked: str
    answer: bytes
    files: Mapping[str, bytes]

    @property
    def role(self) -> str:
        """The role of ``asked``."""
        return self.asked.removesuffix(".json").rpartition(".")[2]


def refusal(error: Exception, scene: Scene) -> AgentError:
    """Our error for python-tuf's ``error``."""
    if isinstance(error, DownloadError):
        cause = error.__cause__
        return cause if isinstance(cause, AgentError) else TransportError(str(error))
    for theirs, judge in _JUDGES:
        if isinstance(error, theirs):
            return judge(error, scene)
    return MalformedDocument(f"{scene.asked}: {error}")


def _expired(error: Exception, _scene: Scene) -> AgentError:
    return ExpiredMetadata(str(error))


def _not_the_one_named(_error: Exception, scene: Scene) -> AgentError:
    return MixAndMatch(f"{scene.asked}: not the file that the signed metadata names")


def _unreadable(_error: Exception, scene: Scene) -> AgentError:
    return MalformedDocument(f"{scene.asked}: not TUF metadata")


def _unsigned(_error: Exception, scene: Scene) -> AgentError:
    """Too few approvals, if nothing but signatures is missing; otherwise a bad signature."""
    delegator = scene.files.get(TARGETS if scene.role.startswith(NAME_OF_MODEL) else ROOT)
    if delegator is None:
        return BadSignature(f"{scene.asked}: signed by nobody who may")
    metadata: Metadata[Targets] = Metadata.from_bytes(scene.answer)
    trusted: Metadata[Targets] = Metadata.from_bytes(delegator)
    result = trusted.signed.get_verification_result(
        scene.role, metadata.signed_bytes, metadata.signatures
    )
    count = f"{scene.asked}: {len(result.signed)} of {result.threshold} signatures"
    if any(keyid in metadata.signatures for keyid in result.unsigned):
        return BadSignature(f"{count}: altered after it was signed")
    if not scene.role.startswith(NAME_OF_MODEL):
        return BadSignature(count)
    if metadata.signatures and not result.signed:
        return BadSignature(f"{count}: signed by nobody who may")
    return TooFewApprovals(f"{scene.asked}: {len(result.signed)} of {result.threshold} approvals")


def _wrong_version(error: Exception, scene: Scene) -> AgentError:
    """Older than what was seen is a rollback; what never belonged together is mix and match."""
    text = f"{scene.asked}: {error}"
    match scene.role:
        case "timestamp":
            return RollbackAttack(text)
        case "root":
            trusted: Metadata[Any] = Metadata.from_bytes(scene.files[ROOT])
            found: Metadata[Any] = Metadata.from_bytes(scene.answer)
            older = found.signed.version <= trusted.signed.version
        case "snapshot":
            older = _goes_back(scene)
        case _:
            older = False
    return RollbackAttack(text) if older else MixAndMatch(text)


def _goes_back(scene: Scene) -> bool:
    """Whether the snapshot that came names an older version of anything than the one before."""
    if SNAPSHOT not in scene.files:
        return False
    before: Metadata[Snapshot] = Metadata.from_bytes(scene.files[SNAPSHOT])
    found: Metadata[Snapshot] = Metadata.from_bytes(scene.answer)
    return any(
        name in found.signed.meta and found.signed.meta[name].version < meta.version
        for name, meta in before.signed.meta.items()
    )


def _other(error: Exception, scene: Scene) -> AgentError:
    text = f"{scene.asked}: {error}"
    if scene.role == "snapshot" and _lost_a_role(scene):
        return RollbackAttack(text)
    if "not part of snapshot" in str(error):
        return NotListed(f"no version was published yet: {error}")
    return MalformedDocument(text)


def _lost_a_role(scene: Scene) -> bool:
    if SNAPSHOT not in scene.files:
        return False
    before: Metadata[Any] = Metadata.from_bytes(scene.files[SNAPSHOT])
    found: Metadata[Any] = Metadata.from_bytes(scene.answer)
    return isinstance(found.signed, Snapshot) and not (
        before.signed.meta.keys() <= found.signed.meta.keys()
    )


# The first row that fits decides: python-tuf's errors are a tree.
_JUDGES: Final[tuple[tuple[type[Exception], Callable[[Exception, Scene], AgentError]], ...]] = (
    (ExpiredMetadataError, _expired),
    (UnsignedMetadataError, _unsigned),
    (BadVersionNumberError, _wrong_version),
    (LengthOrHashMismatchError, _not_the_one_named),
    (DeserializationError, _unreadable),
    (RepositoryError, _other),
)
