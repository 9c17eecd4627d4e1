"""Making metadata current: the role, the snapshot that names it, the timestamp that names that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from controller.audit import Entry
from controller.errors import ConfigError, Conflict
from controller.signing import repository
from controller.signing.metadata import AnySigned, parse, sign, signers_of
from controller.signing.roles import (
    DEFAULT_LIFETIMES,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Lifetimes,
)
from controller.store.store import Transaction
from protos.keys import Signer
from protos.tuf import Metadata, Root, Snapshot, Targets, Timestamp

Online = TypeVar("Online", Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class OnlineSigners:
    """The two keys of the image side that the controller itself holds."""

    snapshot: Signer
    timestamp: Signer


@dataclass(frozen=True, slots=True)
class Act:
    """Who does it, when, and how long what they sign is valid."""

    by: str
    now: datetime
    lifetimes: Lifetimes = DEFAULT_LIFETIMES


def present(tx: Transaction, role: str, kind: type[AnySigned]) -> Metadata[AnySigned] | None:
    """The current metadata of ``role``."""
    data = tx.metadata.current(role)
    return None if data is None else parse(data, kind, f"the stored {role}")


def require_root(tx: Transaction) -> Root:
    """The current root.

    Raises:
        Conflict: there is no repository yet.
    """
    root = present(tx, ROOT, Root)
    if root is None:
        raise Conflict("there is no image metadata yet: run `muster init`")
    return root.signed


def require_targets(tx: Transaction) -> Targets:
    """The current targets.

    Raises:
        Conflict: there is no repository yet.
    """
    targets = present(tx, TARGETS, Targets)
    if targets is None:
        raise Conflict("there is no image metadata yet: run `muster init`")
    return targets.signed


def publish(
    tx: Transaction, changed: Mapping[str, tuple[int, bytes]], online: OnlineSigners, act: Act
) -> None:
    """Makes ``changed`` (version and bytes, by role) current, all at once.

    Raises:
        ConfigError: an online key is not the one that root names.
    """
    for role, (version, data) in changed.items():
        tx.metadata.put(role, version, data)
    root = require_root(tx)
    before = present(tx, SNAPSHOT, Snapshot)
    snapshot = repository.next_snapshot(
        before.signed if before else None,
        {role: data for role, (_, data) in changed.items()},
        act.now,
        act.lifetimes,
    )
    data = _signed_online(root, SNAPSHOT, snapshot, online.snapshot)
    tx.metadata.put(SNAPSHOT, snapshot.version, data)
    publish_timestamp(tx, data, online, act)


def publish_timestamp(tx: Transaction, snapshot: bytes, online: OnlineSigners, act: Act) -> None:
    """Makes a new timestamp current that names ``snapshot``.

    Raises:
        ConfigError: the online key is not the one that root names.
    """
    before = present(tx, TIMESTAMP, Timestamp)
    timestamp = repository.next_timestamp(
        before.signed if before else None, snapshot, act.now, act.lifetimes
    )
    data = _signed_online(require_root(tx), TIMESTAMP, timestamp, online.timestamp)
    tx.metadata.put(TIMESTAMP, timestamp.version, data)


def record(
    tx: Transaction, act: Act, action: str, subject: str, details: Sequence[tuple[str, str]] = ()
) -> None:
    """Appends to the audit chain."""
    tx.audit.append(Entry(act.by, action, subject, dict(details)), int(act.now.timestamp() * 1000))


def _signed_online(root: Root, role: str, signed: Online, signer: Signer) -> bytes:
    data = sign(signed, [signer])
    signed_by, threshold = signers_of(root, role, parse(data, type(signed), role))
    if len(signed_by) < threshold:
        raise ConfigError(
            f"the {role} key {signer.public_key.keyid[:12]} is not the one that root names"
        )
    return data
