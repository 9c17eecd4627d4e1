"""Whether a device may install a version: everything that must hold, one step after the other.

Values in, a value or a refusal out. Nothing here asks the network or the clock.
"""

# A version is installed only if all of this holds. The numbers stand at the code that sees to it.
#
#  (1)  What the device trusts is what it stored: the seal holds.                         state.py
#  (2)  Root: every newer one is signed by the threshold of the one before and its own.  actions.py
#  (3)  Timestamp: signed, not older than any seen.                                      actions.py
#  (4)  Snapshot: the one that the timestamp names; nothing in it is older or gone.      actions.py
#  (5)  Targets: the ones that the snapshot names, signed by root's targets keys.        actions.py
#  (6)  No version is below one that was seen, whatever python-tuf's files say.          growth.py
#  (7)  The directive is signed by the director that targets name (a), is for this       directive.py
#       device (b), and is not older than the one accepted before (c), for as long as who
#       signed that one may direct.
#  (8)  The model's role is the newest (a), delegated to by targets for this model       here
#       alone (b), and signed by as many different approvers as the threshold (c).
#  (9)  The directive's path is the path of its model and version (a), and listed (b).   here
#  (10) Directive and role agree on digest (a) and length (b).                           here
#  (11) The approvers have not recalled the manifest.                                    here
#  (12) The manifest's bytes have that length (a) and digest (b).                        here
#  (13) The manifest is of that model and version (a), and of the signed counter (b).    here
#  (14) Its release counter is not below the approvers' floor.                           here
#  (15) This agent is new enough.                                                        here
#  (16) No metadata that this rests on has expired. Only a new install is stopped by it.  here

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from agent.errors import (
    ExpiredMetadata,
    HashMismatch,
    Incompatible,
    MalformedDocument,
    MixAndMatch,
    NotListed,
    NotYetTrusted,
    TooFewApprovals,
)
from agent.store.device_store import TrustedState
from agent.trust.floor import objection
from agent.trust.state import TARGETS, TOP_LEVEL, Opened
from protos.documents import Assignment, sha256
from protos.errors import DocumentError
from protos.manifest import Manifest, read_manifest, role_name, target_path
from protos.tuf import DelegatedRole, Metadata, TargetFile, Targets

_NUMBERS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Listing:
    """That approvers have signed for what a directive names. ``counter`` is None if they don't say."""

    approvals: int
    counter: int | None


@dataclass(frozen=True, slots=True)
class VerifiedVersion:
    """A version that this device may install, and how many approvers' signatures it verified."""

    manifest: Manifest
    approvals: int


def check_fresh(opened: Opened, names: Iterable[str], now: datetime) -> None:
    """Returns if none of the files has expired.

    Raises:
        ExpiredMetadata: one has.
    """
    for name in names:  # (16)
        seal = opened.seals.get(name)
        if seal is not None and now.timestamp() >= seal.expires:
            expired = datetime.fromtimestamp(seal.expires, UTC)
            raise ExpiredMetadata(f"{name} expired on {expired:%Y-%m-%d %H:%M} UTC")


def trusted_now(now: datetime, state: TrustedState) -> datetime:
    """The device's clock, or the latest time that a trusted source has shown if that is later."""
    return max(now, datetime.fromtimestamp(state.latest_time, UTC))


def listed(opened: Opened, assignment: Assignment, now: datetime) -> Listing:
    """What the approvers have signed for the version that ``assignment`` names.

    Raises:
        NotYetTrusted: the metadata is not complete yet.
        ExpiredMetadata, TooFewApprovals, NotListed, HashMismatch, MixAndMatch, Recalled: refused.
    """
    if not opened.complete:
        raise NotYetTrusted("the fleet's metadata was not verified completely yet")
    name = f"{role_name(assignment.model)}.json"
    check_fresh(opened, (*TOP_LEVEL, name), now)
    targets: Metadata[Targets] = Metadata.from_bytes(opened.files[TARGETS])
    delegation = _responsible(targets.signed, assignment.model)
    if delegation is None:  # (8b)
        raise NotListed(f"{assignment.model}: the signed targets name no approvers of this model")
    if not opened.current(name):  # (8a)
        raise NotListed(f"{assignment.model}: no version is published")
    role: Metadata[Targets] = Metadata.from_bytes(opened.files[name])
    approvals = _approvals(targets.signed, delegation, role)
    if assignment.target != target_path(assignment.model, assignment.version):  # (9a)
        raise NotListed(
            f"{assignment.target!r} is not the path of {assignment.model}/{assignment.version}"
        )
    recalled = objection(opened.state, assignment.model, assignment.sha256, 2**63)
    if recalled is not None:  # (11)
        raise recalled
    target = role.signed.targets.get(assignment.target)
    if target is None:  # (9b)
        raise NotListed(f"{assignment.target}: no approver has signed for it")
    if target.hashes.get("sha256") != assignment.sha256:  # (10a)
        raise NotListed(f"{assignment.target}: the approvers signed for another digest")
    if target.length != assignment.length:  # (10b)
        raise NotListed(f"{assignment.target}: the approvers signed for another length")
    return Listing(approvals, _counter(target))


def verified(
    data: bytes, assignment: Assignment, listing: Listing, state: TrustedState, agent_version: str
) -> VerifiedVersion:
    """The manifest in ``data``, if it is what was signed for and may run on this agent.

    Raises:
        HashMismatch, MalformedDocument, MixAndMatch, BelowFloor, Incompatible: refused.
    """
    if len(data) != assignment.length:  # (12a)
        raise HashMismatch(f"the manifest has {len(data)} bytes, not {assignment.length}")
    if sha256(data) != assignment.sha256:  # (12b)
        raise HashMismatch(f"the manifest is not the one with digest {assignment.sha256[:12]}")
    try:
        manifest = read_manifest(data)
    except DocumentError as error:
        raise MalformedDocument(error.detail) from error
    wanted = f"{assignment.model}/{assignment.version}"
    if manifest.reference != wanted:  # (13a)
        raise MixAndMatch(f"the manifest is of {manifest.reference}, not of {wanted}")
    if listing.counter not in {None, manifest.release_counter}:  # (13b)
        raise MixAndMatch(f"the manifest's release counter is not the signed {listing.counter}")
    forbidden = objection(state, manifest.model, assignment.sha256, manifest.release_counter)
    if forbidden is not None:  # (14)
        raise forbidden
    if _older(agent_version, manifest.minimum_agent):  # (15)
        raise Incompatible(
            f"{wanted} needs agent {manifest.minimum_agent}; this is {agent_version}"
        )
    return VerifiedVersion(manifest, listing.approvals)


def delegated_models(targets: bytes, models: Iterable[str]) -> frozenset[str]:
    """Those of ``models`` whose own approvers verified ``targets`` ask first."""
    metadata: Metadata[Targets] = Metadata.from_bytes(targets)
    return frozenset(model for model in models if _responsible(metadata.signed, model) is not None)


def _responsible(targets: Targets, model: str) -> DelegatedRole | None:
    """The role of the model's approvers, if it is the one that a TUF client asks first."""
    delegations = targets.delegations
    roles = delegations.roles if delegations is not None and delegations.roles is not None else {}
    path = target_path(model, 1)
    first = next((role for role in roles.values() if role.is_delegated_path(path)), None)
    return first if first is not None and first.name == role_name(model) else None


def _approvals(targets: Targets, delegation: DelegatedRole, role: Metadata[Targets]) -> int:
    """How many different keys of approvers have validly signed ``role``.

    A key under two names counts once: the threshold counts people.
    """
    result = targets.get_verification_result(delegation.name, role.signed_bytes, role.signatures)
    different = {str(sorted(key.keyval.items())) for key in result.signed.values()}
    if len(different) < delegation.threshold:  # (8c)
        raise TooFewApprovals(
            f"{delegation.name}: {len(different)} of {delegation.threshold} approvals"
        )
    return len(different)


def _counter(target: TargetFile) -> int | None:
    custom = target.custom
    counter = custom.get("release_counter") if isinstance(custom, dict) else None
    return counter if isinstance(counter, int) else None


def _older(version: str, minimum: str) -> bool:
    if not minimum:
        return False
    found, wanted = _NUMBERS.match(version), _NUMBERS.fullmatch(minimum)
    if wanted is None:
        raise MalformedDocument(f"manifest: `$.minimum_agent` {minimum!r} is no version number")
    have = found[0] if found is not None else "0"
    return _parts(have) < _parts(minimum)


def _parts(version: str) -> tuple[int, ...]:
    parts = [int(part) for part in version.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
