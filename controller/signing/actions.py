"""What people ask of the image metadata. Each action is one part of one transaction, and audited.

Nothing here can publish what people did not sign: the signatures are verified against the keys that
``root`` and ``targets`` name, as every device will do again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.errors import BadSignature, Conflict, InvalidInput, NotFound
from controller.registry.version import Change, Model, Pending, State, Version
from controller.signing import repository, waiting
from controller.signing.metadata import parse, require_signed, sign, signers_of, with_signature
from controller.signing.publication import (
    Act,
    OnlineSigners,
    present,
    publish,
    publish_timestamp,
    record,
    require_root,
    require_targets,
)
from controller.signing.repository import TopLevelKeys
from controller.signing.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, renewal_due
from controller.store.store import Transaction
from protos.keys import Key, Signer
from protos.tuf import Metadata, Root, Snapshot, Targets, Timestamp

__all__ = [
    "Accepted",
    "Act",
    "Founders",
    "OnlineSigners",
    "accept_root",
    "accept_signature",
    "accept_targets",
    "add_signature",
    "create_repository",
    "propose_delegation",
    "propose_recall",
    "propose_renewal",
    "propose_version",
    "resign_online",
]


@dataclass(frozen=True, slots=True)
class Founders:
    """The offline signers at the beginning, and the keys that directives are signed with.

    ``names`` are what people know the keys by, by key id; they stand in the metadata.
    """

    root: Sequence[Signer]
    root_threshold: int
    targets: Sequence[Signer]
    targets_threshold: int
    director: Sequence[Key]
    names: Mapping[str, str] = field(default_factory=dict)

    def key(self, key: Key) -> Key:
        """``key`` as it stands in metadata."""
        name = self.names.get(key.keyid)
        return key if name is None else repository.named(key, name)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a signature led to. ``signed_by`` are key ids; ``published`` says that it was enough."""

    signed_by: tuple[str, ...]
    threshold: int
    published: bool


def create_repository(
    tx: Transaction,
    founders: Founders,
    online: OnlineSigners,
    act: Act,
) -> bytes:
    """Makes version 1 of every top-level role; returns the root, which devices will pin.

    Raises:
        Conflict: there is a repository already.
        InvalidInput: a threshold that its keys can't reach, or the same key twice.
    """
    if tx.metadata.current(ROOT) is not None:
        raise Conflict("the image metadata is there already")
    keys = TopLevelKeys(
        root=[founders.key(signer.public_key) for signer in founders.root],
        root_threshold=founders.root_threshold,
        targets=[founders.key(signer.public_key) for signer in founders.targets],
        targets_threshold=founders.targets_threshold,
        snapshot=founders.key(online.snapshot.public_key),
        timestamp=founders.key(online.timestamp.public_key),
    )
    root = sign(repository.first_root(keys, act.now, act.lifetimes), founders.root)
    metadata = parse(root, Root, ROOT)
    require_signed(metadata.signed, ROOT, metadata)
    tx.metadata.put(ROOT, 1, root)
    director = [founders.key(key) for key in founders.director]
    targets = sign(repository.first_targets(director, act.now, act.lifetimes), founders.targets)
    require_signed(metadata.signed, TARGETS, parse(targets, Targets, TARGETS))
    publish(tx, {TARGETS: (1, targets)}, online, act)
    record(tx, act, "root.create", ROOT, [("keys", str(len(founders.root)))])
    return root


def propose_delegation(
    tx: Transaction,
    model: str,
    approvers: Sequence[Key],
    threshold: int,
    act: Act,
) -> bytes:
    """Unsigned targets in which ``approvers`` decide on versions of ``model``.

    Nothing is stored: the administrators sign these bytes where their keys are
    (``approval.check_delegation``), and ``accept_targets`` takes the result. Give keys their holders'
    names with ``repository.named``.

    Raises:
        InvalidInput: a threshold that they can't reach, or the same key twice.
        Conflict: there is no repository yet.
    """
    targets = repository.with_delegation(
        require_targets(tx), model, approvers, threshold, act.now, act.lifetimes
    )
    return Metadata(targets).to_bytes()


def add_signature(metadata: bytes, key: Key, sig: bytes) -> bytes:
    """Targets with one verified signature more, for ``accept_targets`` or the next administrator.

    Raises:
        BadSignature: it is not this key's signature of this metadata.
        InvalidInput, TooLarge: it is no targets metadata.
    """
    return with_signature(parse(metadata, Targets, "the pending targets"), key, sig)


def accept_targets(
    tx: Transaction,
    metadata: bytes,
    online: OnlineSigners,
    act: Act,
) -> Sequence[Model]:
    """Publishes signed targets; returns the models that are new or have other approvers now.

    Signatures on pending metadata by those who are no longer approvers are void.

    Raises:
        BadSignature: fewer of root's targets keys have signed than must.
        Conflict: other targets were published first.
        InvalidInput: they expired, or delegate to what is no model.
    """
    pending = parse(metadata, Targets, "the signed targets")
    require_signed(require_root(tx), TARGETS, pending)
    targets, before = pending.signed, require_targets(tx)
    if targets.version != before.version + 1:
        raise Conflict(
            f"targets {targets.version} do not follow {before.version}: propose and sign anew"
        )
    if targets.is_expired(act.now):
        raise InvalidInput(f"the signed targets expired on {targets.expires:%Y-%m-%d}")
    delegated = repository.models_of(targets)
    gone = repository.models_of(before).keys() - delegated.keys()
    if gone:
        raise InvalidInput(f"targets: no approvers of {', '.join(sorted(gone))} any more")
    publish(tx, {TARGETS: (targets.version, metadata)}, online, act)
    record(tx, act, "targets.publish", TARGETS, [("version", str(targets.version))])
    changed = []
    for name, role in delegated.items():
        approvers = {keyid: repository.holder(targets.get_key(keyid)) for keyid in role.keyids}
        known = tx.registry.model(name)
        if known and (known.threshold, dict(known.approvers)) == (role.threshold, approvers):
            continue
        fresh = Model(name=name, created_at=act.now.timestamp(), threshold=1)
        model = replace(known or fresh, threshold=role.threshold, approvers=approvers)
        tx.registry.put_model(model)
        changed.append(model)
        waiting.count_anew(tx, name, online, act)
    return changed


def propose_version(
    tx: Transaction,
    model: str,
    version: int,
    act: Act,
) -> Pending:
    """Metadata that would publish the version, for the approvers to sign. Asking twice is as once.

    Raises:
        NotFound: there is no such version.
        Conflict: it is not validated, or the model has no approvers.
    """
    found = _version(tx, model, version)
    if found.state is not State.VALIDATED:
        raise Conflict(f"{model}/{version} is {found.state}, not {State.VALIDATED}")
    return waiting.propose(tx, found, Change.ADD, 0, act)


def propose_recall(
    tx: Transaction,
    model: str,
    version: int,
    act: Act,
    release_floor: int = 0,
) -> Pending:
    """Metadata that would recall the version for ever, for the approvers to sign.

    ``release_floor`` forbids every version with a lower release counter besides; 0 leaves it.

    Raises:
        NotFound: there is no such version.
        Conflict: it is not published.
    """
    found = _version(tx, model, version)
    if found.state is not State.PUBLISHED:
        raise Conflict(f"{model}/{version} is {found.state}, not {State.PUBLISHED}")
    return waiting.propose(tx, found, Change.RECALL, release_floor, act)


def accept_signature(
    tx: Transaction,
    model: str,
    version: int,
    keyid: str,
    sig: bytes,
    online: OnlineSigners,
    act: Act,
) -> Accepted:
    """Adds an approver's signature to what waits for the version; publishes when it is enough.

    Raises:
        NotFound: nothing waits for a signature.
        BadSignature: the key is no approver's, or did not sign this metadata.
    """
    pending = tx.registry.pending(model, version)
    if pending is None:
        raise NotFound(f"nothing of {model}/{version} waits for a signature")
    targets = require_targets(tx)
    role = repository.delegation(targets, model)
    if role is None or keyid not in role.keyids:
        raise BadSignature(f"the key {keyid[:12]} is of no approver of {model}")
    metadata = parse(pending.metadata, Targets, f"the pending metadata of {model}/{version}")
    key = targets.get_key(keyid)
    signed = with_signature(metadata, key, sig)
    signed_by, threshold = signers_of(targets, role.name, metadata)
    tx.registry.put_pending(replace(pending, metadata=signed, signed_by=signed_by))
    record(
        tx,
        act,
        "version.sign",
        f"{model}/{version}",
        [("approver", repository.holder(key)), ("keyid", keyid), ("change", pending.change)],
    )
    return Accepted(
        signed_by, threshold, waiting.publish_if_enough(tx, model, version, online, act)
    )


def propose_renewal(tx: Transaction, model: str, act: Act) -> Pending:
    """Metadata that changes nothing but the expiry of the model's role, for the approvers to sign.

    For a model whose role nears its expiry, or whose approvers have changed. It waits under the
    newest version of the model.

    Raises:
        NotFound: the model has no published metadata.
        Conflict: something else waits under that version.
    """
    published = {State.PUBLISHED, State.RECALLED}
    versions = [one for one in tx.registry.versions(model) if one.state in published]
    if not versions:
        raise NotFound(f"no version of {model} was published yet")
    return waiting.propose(tx, versions[-1], Change.RENEW, 0, act)


def accept_root(tx: Transaction, metadata: bytes, online: OnlineSigners, act: Act) -> Root:
    """Publishes the root that follows the present one, and signs anew what its keys must sign.

    Raises:
        BadSignature: the present root's or its own keys have not signed it as they must, or its
            targets keys have not signed the present targets.
        Conflict: it does not follow the present root.
        InvalidInput: it expired, or is no root.
        ConfigError: it names other online keys than ``online``.
    """
    pending = parse(metadata, Root, "the signed root")
    root, before = pending.signed, require_root(tx)
    if root.version != before.version + 1:
        raise Conflict(f"root {root.version} does not follow {before.version}")
    if root.is_expired(act.now):
        raise InvalidInput(f"the signed root expired on {root.expires:%Y-%m-%d}")
    if not root.consistent_snapshot:
        raise InvalidInput("the signed root: consistent_snapshot must be true")
    require_signed(before, ROOT, pending)
    require_signed(root, ROOT, pending)
    targets = present(tx, TARGETS, Targets)
    if targets is not None:
        require_signed(root, TARGETS, targets)
    tx.metadata.put(ROOT, root.version, metadata)
    publish(tx, {}, online, act)
    record(tx, act, "root.publish", ROOT, [("version", str(root.version))])
    return root


def resign_online(tx: Transaction, online: OnlineSigners, act: Act) -> Sequence[str]:
    """Signs snapshot and timestamp anew if that is due; returns the roles that were.

    Raises:
        ConfigError: an online key is not the one that root names.
    """
    snapshot, timestamp = present(tx, SNAPSHOT, Snapshot), present(tx, TIMESTAMP, Timestamp)
    if snapshot is None or timestamp is None:
        return ()
    if renewal_due(snapshot.signed.expires, act.lifetimes.snapshot, act.now):
        publish(tx, {}, online, act)
        signed: Sequence[str] = (SNAPSHOT, TIMESTAMP)
    elif renewal_due(timestamp.signed.expires, act.lifetimes.timestamp, act.now):
        current = tx.metadata.current(SNAPSHOT) or b""
        publish_timestamp(tx, current, online, act)
        signed = (TIMESTAMP,)
    else:
        return ()
    record(tx, act, "online.sign", ", ".join(signed))
    return signed


def _version(tx: Transaction, model: str, version: int) -> Version:
    found = tx.registry.version(model, version)
    if found is None:
        raise NotFound(f"no version {model}/{version}")
    return found
