"""The next metadata of every role, from the present one and ``now``: values in, unsigned values out.

Rules:

1. What is given is never changed; what is returned has the next version and a new expiry.
2. Recalled digests and release floors only grow.
3. A role never delegates to two names of the same key: a threshold counts people.
4. Consistent snapshots: every file but the timestamp bears its version in its name.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from controller.errors import Conflict, InvalidInput, NotFound
from controller.signing.roles import Lifetimes
from protos.documents import sha256
from protos.image import (
    KEY_NAME,
    MAX_RECALLED,
    Freshness,
    Restrictions,
    extension,
    restrictions,
)
from protos.keys import Key, SSlibKey
from protos.manifest import DIRECTOR_ROLE, Manifest, read_manifest, role_name, target_path
from protos.tuf import (
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

AnySigned = TypeVar("AnySigned", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class TopLevelKeys:
    """Who may sign the top-level roles."""

    root: Sequence[Key]
    root_threshold: int
    targets: Sequence[Key]
    targets_threshold: int
    snapshot: Key
    timestamp: Key


def named(key: Key, holder: str) -> SSlibKey:
    """``key`` as it stands in metadata: with the name that people know its holder by."""
    return SSlibKey(key.keyid, key.keytype, key.scheme, key.keyval, {KEY_NAME: holder})


def holder(key: Key) -> str:
    """The name that people know the key by; a piece of its id if it bears none."""
    name = key.unrecognized_fields.get(KEY_NAME)
    return name if isinstance(name, str) and name else key.keyid[:12]


def first_root(keys: TopLevelKeys, now: datetime, lifetimes: Lifetimes) -> Root:
    """Version 1 of root.

    Raises:
        InvalidInput: a threshold that its keys can't reach, or the same key twice.
    """
    root = Root(version=1, expires=_until(now, lifetimes, "root"), consistent_snapshot=True)
    return _with_keys(root, keys)


def next_root(current: Root, keys: TopLevelKeys, now: datetime, lifetimes: Lifetimes) -> Root:
    """The root that follows ``current``: enough of the keys of both must sign it.

    Raises:
        InvalidInput: a threshold that its keys can't reach, or the same key twice.
    """
    return _with_keys(_next(current, now, lifetimes, "root"), keys)


def top_level_keys(root: Root) -> TopLevelKeys:
    """Who may sign the top-level roles according to ``root``."""

    def keys(role: str) -> list[Key]:
        return [root.keys[keyid] for keyid in root.roles[role].keyids]

    return TopLevelKeys(
        root=keys("root"),
        root_threshold=root.roles["root"].threshold,
        targets=keys("targets"),
        targets_threshold=root.roles["targets"].threshold,
        snapshot=keys("snapshot")[0],
        timestamp=keys("timestamp")[0],
    )


def first_targets(director: Sequence[Key], now: datetime, lifetimes: Lifetimes) -> Targets:
    """Version 1 of targets: no models yet, and the keys that directives are signed with."""
    targets = Targets(
        version=1,
        expires=_until(now, lifetimes, "targets"),
        delegations=Delegations(keys={}, roles={}),
    )
    return _delegate(targets, _director_role(director), director)


def with_director(
    current: Targets, director: Sequence[Key], now: datetime, lifetimes: Lifetimes
) -> Targets:
    """Targets whose directives are signed with other keys."""
    targets = _next(current, now, lifetimes, "targets")
    return _delegate(targets, _director_role(director), director)


def with_delegation(
    current: Targets,
    model: str,
    approvers: Sequence[Key],
    threshold: int,
    now: datetime,
    lifetimes: Lifetimes,
) -> Targets:
    """Targets that name the approvers of ``model``, and how many of them must agree.

    Raises:
        InvalidInput: a threshold that they can't reach, or the same key twice.
    """
    _check_keys(f"approvers of {model}", approvers, threshold)
    role = DelegatedRole(
        role_name(model),
        [key.keyid for key in approvers],
        threshold,
        terminating=True,
        paths=[f"models/{model}/*"],
    )
    return _delegate(_next(current, now, lifetimes, "targets"), role, approvers)


def delegation(targets: Targets, model: str) -> DelegatedRole | None:
    """Who approves versions of ``model``; None if ``targets`` do not say."""
    delegations = targets.delegations
    if delegations is None or delegations.roles is None:
        return None
    return delegations.roles.get(role_name(model))


def models_of(targets: Targets) -> dict[str, DelegatedRole]:
    """The delegation of every model, by the model's name.

    Raises:
        InvalidInput: a delegation is neither the director's nor of the form that models have.
    """
    found = {}
    delegations = targets.delegations
    roles = dict((delegations.roles or {}) if delegations is not None else {})
    if roles.pop(DIRECTOR_ROLE, None) is None:
        raise InvalidInput("targets: no key of a director, so nobody could direct the devices")
    for name, role in roles.items():
        model = name.removeprefix(role_name(""))
        if name != role_name(model) or role.paths != [f"models/{model}/*"] or not role.terminating:
            raise InvalidInput(f"targets: the delegation {name!r} is of no model")
        _check_keys(
            f"approvers of {model}", [targets.get_key(one) for one in role.keyids], role.threshold
        )
        found[model] = role
    return found


def with_version(
    current: Targets | None, manifest: bytes, now: datetime, lifetimes: Lifetimes
) -> Targets:
    """The model's role with one version more; ``None`` is a model without any.

    Raises:
        Conflict: the version is listed or recalled, or its release counter is under the floor.
        DocumentError: the manifest can't be read.
    """
    wanted = read_manifest(manifest)
    targets = _next_of_model(current, wanted.model, now, lifetimes)
    path = target_path(wanted.model, wanted.version)
    held = restrictions(targets.unrecognized_fields)
    if path in targets.targets:
        raise Conflict(f"{wanted.reference} is published already")
    if sha256(manifest) in held.recalled:
        raise Conflict(f"{wanted.reference} was recalled; register a new version")
    if wanted.release_counter < held.release_floor:
        raise Conflict(
            f"{wanted.reference} has release counter {wanted.release_counter},"
            f" under the floor {held.release_floor}"
        )
    targets.targets[path] = target_file(wanted, manifest)
    return targets


def target_file(manifest: Manifest, data: bytes) -> TargetFile:
    """How a manifest is listed: its length, its SHA-256 and its release counter."""
    return TargetFile(
        len(data),
        {"sha256": sha256(data)},
        target_path(manifest.model, manifest.version),
        {"custom": {"release_counter": manifest.release_counter}},
    )


def with_recall(
    current: Targets,
    model: str,
    version: int,
    release_floor: int,
    now: datetime,
    lifetimes: Lifetimes,
) -> Targets:
    """The model's role without a version, whose manifest is on the list of the recalled for ever.

    ``release_floor`` forbids everything older, too; 0 leaves the floor as it is.

    Raises:
        NotFound: the version is not listed.
        Conflict: the floor would fall, or too many versions are recalled.
    """
    targets = _next_of_model(current, model, now, lifetimes)
    target = targets.targets.pop(target_path(model, version), None)
    if target is None:
        raise NotFound(f"{model}/{version} is not published")
    held = restrictions(targets.unrecognized_fields)
    if 0 < release_floor < held.release_floor:
        raise Conflict(f"the release floor of {model} is {held.release_floor} and never falls")
    if len(held.recalled) >= MAX_RECALLED:
        raise Conflict(f"{model} has {MAX_RECALLED} recalled versions: raise its release floor")
    after = Restrictions(
        recalled=tuple(sorted({*held.recalled, target.hashes["sha256"]})),
        release_floor=max(held.release_floor, release_floor),
    )
    targets.unrecognized_fields |= extension(after)
    return targets


def renewed(current: Targets, model: str, now: datetime, lifetimes: Lifetimes) -> Targets:
    """The model's role with nothing changed but its expiry."""
    return _next_of_model(current, model, now, lifetimes)


def next_snapshot(
    current: Snapshot | None, changed: Mapping[str, bytes], now: datetime, lifetimes: Lifetimes
) -> Snapshot:
    """The snapshot that names the ``changed`` metadata (by role) besides what it named before."""
    expires = _until(now, lifetimes, "snapshot")
    if current is None:
        snapshot = Snapshot(version=1, expires=expires, meta={})
    else:
        snapshot = _next(current, now, lifetimes, "snapshot")
    for role, data in changed.items():
        snapshot.meta[f"{role}.json"] = _meta_file(data)
    return snapshot


def next_timestamp(
    current: Timestamp | None, snapshot: bytes, now: datetime, lifetimes: Lifetimes
) -> Timestamp:
    """The timestamp that names ``snapshot``, and says when it was signed."""
    expires = _until(now, lifetimes, "timestamp")
    if current is None:
        timestamp = Timestamp(version=1, expires=expires)
    else:
        timestamp = _next(current, now, lifetimes, "timestamp")
    timestamp.snapshot_meta = _meta_file(snapshot)
    timestamp.unrecognized_fields |= extension(Freshness(signed_at=int(now.timestamp())))
    return timestamp


def _meta_file(data: bytes) -> MetaFile:
    return MetaFile(Metadata.from_bytes(data).signed.version, len(data), {"sha256": sha256(data)})


def _next(current: AnySigned, now: datetime, lifetimes: Lifetimes, role: str) -> AnySigned:
    following = copy.deepcopy(current)
    following.version += 1
    following.expires = _until(now, lifetimes, role)
    return following


def _next_of_model(
    current: Targets | None, model: str, now: datetime, lifetimes: Lifetimes
) -> Targets:
    role = role_name(model)
    if current is None:
        return Targets(version=1, expires=_until(now, lifetimes, role))
    return _next(current, now, lifetimes, role)


def _until(now: datetime, lifetimes: Lifetimes, role: str) -> datetime:
    return (now + lifetimes.of(role)).astimezone(UTC)


def _director_role(director: Sequence[Key]) -> DelegatedRole:
    _check_keys("director", director, 1)
    # No path is delegated: the role names keys, and no metadata file bears its name.
    return DelegatedRole(
        DIRECTOR_ROLE, [key.keyid for key in director], 1, terminating=True, paths=[]
    )


def _delegate(targets: Targets, role: DelegatedRole, keys: Sequence[Key]) -> Targets:
    delegations = targets.delegations
    roles = dict(delegations.roles or {}) if delegations is not None else {}
    known = dict(delegations.keys) if delegations is not None else {}
    roles[role.name] = role
    known |= {key.keyid: key for key in keys}
    used = {keyid for one in roles.values() for keyid in one.keyids}
    targets.delegations = Delegations(
        keys={keyid: key for keyid, key in known.items() if keyid in used}, roles=roles
    )
    return targets


def _with_keys(root: Root, keys: TopLevelKeys) -> Root:
    _check_keys("root", keys.root, keys.root_threshold)
    _check_keys("targets", keys.targets, keys.targets_threshold)
    by_role = {
        "root": (keys.root, keys.root_threshold),
        "targets": (keys.targets, keys.targets_threshold),
        "snapshot": ([keys.snapshot], 1),
        "timestamp": ([keys.timestamp], 1),
    }
    root.roles = {
        role: Role([key.keyid for key in those], threshold)
        for role, (those, threshold) in by_role.items()
    }
    root.keys = {key.keyid: key for those, _ in by_role.values() for key in those}
    return root


def _check_keys(what: str, keys: Sequence[Key], threshold: int) -> None:
    values = {str(sorted(key.keyval.items())) for key in keys}
    if len(values) < len(keys) or len({key.keyid for key in keys}) < len(keys):
        raise InvalidInput(f"{what}: the same key is named twice")
    if not 1 <= threshold <= len(keys):
        raise InvalidInput(f"{what}: threshold {threshold} with {len(keys)} keys")
