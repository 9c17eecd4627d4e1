"""Metadata of a model's role that waits for signatures: proposed, rebuilt, published.

Rules:

1. What waits is always built on what is current: publishing one voids the signatures on the others.
2. A version moves only through the table of ``controller.registry.version``.
"""

from dataclasses import replace

from controller.errors import Conflict, ControllerError
from controller.registry.version import Change, Event, IllegalEvent, Pending, Version, step
from controller.signing import repository
from controller.signing.metadata import parse, signers_of
from controller.signing.publication import (
    Act,
    OnlineSigners,
    present,
    publish,
    record,
    require_targets,
)
from controller.store.store import Transaction
from protos.documents import sha256
from protos.image import restrictions
from protos.manifest import role_name
from protos.tuf import Metadata, Targets


def propose(
    tx: Transaction, version: Version, change: Change, release_floor: int, act: Act
) -> Pending:
    """What waits for signatures from now on; what waits already, if it would do the same.

    Raises:
        Conflict: something else waits for this version, or the change can't be made.
    """
    subject = f"{version.model}/{version.version}"
    if repository.delegation(require_targets(tx), version.model) is None:
        raise Conflict(
            f"the model {version.model} has no approvers yet",
            f"Name them first: `muster model create {version.model} --help` says how.",
        )
    waiting = tx.registry.pending(version.model, version.version)
    metadata = _build(tx, version, change, release_floor, act)
    if waiting is not None:
        known = parse(waiting.metadata, Targets, f"the pending metadata of {subject}").signed
        if waiting.change is not change:
            raise Conflict(f"a {waiting.change} of {subject} waits for signatures already")
        if not known.is_expired(act.now) and _same_but_expiry(known, metadata):
            return waiting
    pending = Pending(
        model=version.model,
        version=version.version,
        change=change,
        metadata=Metadata(metadata).to_bytes(),
        proposed_at=act.now.timestamp(),
        proposed_by=act.by,
    )
    tx.registry.put_pending(pending)
    record(tx, act, "version.propose", subject, [("change", change)])
    return pending


def publish_if_enough(
    tx: Transaction, model: str, version: int, online: OnlineSigners, act: Act
) -> bool:
    """Publishes what waits for the version, if enough approvers have signed; says whether.

    Raises:
        Conflict: it expired, or the version can no longer change so.
    """
    pending = tx.registry.pending(model, version)
    if pending is None:
        return False
    role, subject = role_name(model), f"{model}/{version}"
    metadata = parse(pending.metadata, Targets, f"the pending metadata of {subject}")
    signed_by, threshold = signers_of(require_targets(tx), role, metadata)
    if len(signed_by) < threshold:
        return False
    if metadata.signed.is_expired(act.now):
        raise Conflict(f"what waits for {subject} expired: propose it anew")
    match pending.change:
        case Change.ADD:
            _move(tx, model, version, Event.SIGNED_ENOUGH)
            _move(tx, model, version, Event.PUBLISHED)
        case Change.RECALL:
            _move(tx, model, version, Event.RECALLED)
        case Change.RENEW:
            pass
    publish(tx, {role: (metadata.signed.version, pending.metadata)}, online, act)
    tx.registry.remove_pending(model, version)
    details = [
        ("change", str(pending.change)),
        ("metadata", f"{metadata.signed.version}.{role}.json"),
        ("sha256", sha256(pending.metadata)),
        ("signed_by", ", ".join(signed_by)),
    ]
    record(tx, act, "version.publish", subject, details)
    for other in tx.registry.all_pending(model):
        _rebuild(tx, other, act)
    return True


def count_anew(tx: Transaction, model: str, online: OnlineSigners, act: Act) -> None:
    """After a change of approvers: forgets the signatures of those who no longer are."""
    targets = require_targets(tx)
    for waiting in tx.registry.all_pending(model):
        what = f"the pending metadata of {model}/{waiting.version}"
        metadata = parse(waiting.metadata, Targets, what)
        signed_by, _ = signers_of(targets, role_name(model), metadata)
        metadata.signatures = {keyid: metadata.signatures[keyid] for keyid in signed_by}
        kept = replace(waiting, metadata=metadata.to_bytes(), signed_by=signed_by)
        tx.registry.put_pending(kept)
    for waiting in tx.registry.all_pending(model):
        publish_if_enough(tx, model, waiting.version, online, act)


def _build(
    tx: Transaction, version: Version, change: Change, release_floor: int, act: Act
) -> Targets:
    found = present(tx, role_name(version.model), Targets)
    current = found.signed if found is not None else None
    if change is Change.ADD:
        return repository.with_version(current, version.manifest, act.now, act.lifetimes)
    if current is None:
        raise Conflict(f"no version of {version.model} was published yet")
    if change is Change.RENEW:
        return repository.renewed(current, version.model, act.now, act.lifetimes)
    return repository.with_recall(
        current, version.model, version.version, release_floor, act.now, act.lifetimes
    )


def _rebuild(tx: Transaction, pending: Pending, act: Act) -> None:
    """Builds what waits anew on what is current now; nobody has signed that yet."""
    subject = f"{pending.model}/{pending.version}"
    version = tx.registry.version(pending.model, pending.version)
    if version is None:
        raise Conflict(f"what waits for {subject} is of no version")
    was = parse(pending.metadata, Targets, f"the pending metadata of {subject}").signed
    floor = restrictions(was.unrecognized_fields).release_floor
    current = present(tx, role_name(pending.model), Targets)
    held = restrictions(current.signed.unrecognized_fields if current else {}).release_floor
    try:
        metadata = _build(tx, version, pending.change, floor if floor > held else 0, act)
    except ControllerError as error:
        tx.registry.remove_pending(pending.model, pending.version)
        if pending.change is Change.ADD:
            _move(tx, pending.model, pending.version, Event.WITHDRAWN, error.detail)
        record(tx, act, "version.withdraw", subject, [("why", error.detail)])
        return
    rebuilt = replace(pending, metadata=Metadata(metadata).to_bytes(), signed_by=())
    tx.registry.put_pending(rebuilt)
    if pending.change is Change.ADD:
        _move(tx, pending.model, pending.version, Event.SIGNATURES_VOID)
    record(tx, act, "version.signatures-void", subject, [("had", str(len(pending.signed_by)))])


def _move(tx: Transaction, model: str, version: int, event: Event, *reasons: str) -> None:
    found = tx.registry.version(model, version)
    if found is None:
        raise Conflict(f"there is no version {model}/{version}")
    try:
        state = step(found.state, event)
    except IllegalEvent as error:
        raise Conflict(f"{model}/{version} is {found.state}: {event} is too late") from error
    tx.registry.put_version(replace(found, state=state, reasons=(*found.reasons, *reasons)))


def _same_but_expiry(one: Targets, other: Targets) -> bool:
    fields = one.to_dict(), other.to_dict()
    for each in fields:
        each.pop("expires")
    return fields[0] == fields[1]
