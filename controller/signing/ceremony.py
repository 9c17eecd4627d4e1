"""What people sign with the offline keys: the root that follows, and targets with other directors.

Made and checked on their own machines. A root may change who signs the top-level roles, targets here
who directs the devices; either may just begin a new lifetime. Anything else is an objection.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from controller.errors import Conflict, InvalidInput, NotFound, NotWhatWasShown
from controller.signing import repository
from controller.signing.approval import Checked, TrustedImage, differences, expiry_objections
from controller.signing.metadata import parse, sign, signers_of, with_signature
from controller.signing.repository import TopLevelKeys
from controller.signing.roles import (
    DEFAULT_LIFETIMES,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Lifetimes,
)
from protos.keys import Key
from protos.manifest import DIRECTOR_ROLE
from protos.tuf import Root, Targets

TOP_LEVEL: Final = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)
WHAT: Final = "the metadata to sign"
NOTHING: Final = "changes nothing but the expiry"


def following_root(
    present: Root, keys: TopLevelKeys, now: datetime, lifetimes: Lifetimes = DEFAULT_LIFETIMES
) -> bytes:
    """The next root, unsigned.

    Raises:
        InvalidInput: a threshold that its keys can't reach, or the same key twice.
    """
    return sign(repository.next_root(present, keys, now, lifetimes), ())


def following_targets(
    present: Targets,
    director: Sequence[Key],
    now: datetime,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> bytes:
    """The next targets, unsigned; all that may change is who directs the devices.

    Raises:
        InvalidInput: no key, or the same twice.
    """
    return sign(repository.with_director(present, director, now, lifetimes), ())


def changed(
    keys: Sequence[Key], role: str, add: Iterable[Key], remove: Iterable[str]
) -> Sequence[Key]:
    """The keys of ``role`` with some more and without those whose holders ``remove`` names.

    Raises:
        NotFound: nobody of that name is among them.
        Conflict: a key that is added is there already.
    """
    kept = list(keys)
    for name in remove:
        out = [key for key in kept if name in {repository.holder(key), key.keyid}]
        if not out:
            known = ", ".join(repository.holder(key) for key in kept)
            raise NotFound(f"{role}: there is no key {name!r}; there are: {known}")
        kept = [key for key in kept if key not in out]
    for key in add:
        if key.keyid in {one.keyid for one in kept}:
            raise Conflict(f"{role}: the key of {repository.holder(key)} is there already")
        kept.append(key)
    return kept


def with_role(present: Root, role: str, keys: Sequence[Key], threshold: int | None) -> TopLevelKeys:
    """Who signs what, after ``role`` (a top-level one) has other keys; None keeps its threshold.

    Raises:
        InvalidInput: an online role has more than one key, or another threshold than 1.
    """
    top = repository.top_level_keys(present)
    needed = present.roles[role].threshold if threshold is None else threshold
    match role:
        case "root":
            return replace(top, root=keys, root_threshold=needed)
        case "targets":
            return replace(top, targets=keys, targets_threshold=needed)
    if len(keys) != 1 or needed != 1:
        raise InvalidInput(f"{role}: the controller signs it alone: one key, and threshold 1")
    return replace(top, snapshot=keys[0]) if role == SNAPSHOT else replace(top, timestamp=keys[0])


def directors(targets: Targets) -> list[Key]:
    """The keys that directives are signed with.

    Raises:
        InvalidInput: the targets name none.
    """
    roles = targets.delegations.roles if targets.delegations is not None else None
    role = (roles or {}).get(DIRECTOR_ROLE)
    if role is None:
        raise InvalidInput("targets: no key of a director")
    try:
        return [targets.get_key(keyid) for keyid in role.keyids]
    except ValueError as error:
        raise InvalidInput(f"targets: {error}") from error


def check_root(
    present: Root, pending: bytes, now: datetime, lifetimes: Lifetimes = DEFAULT_LIFETIMES
) -> Checked:
    """The pending root, if it follows the present one and changes nothing but keys and thresholds.

    Raises:
        NotWhatWasShown: it does anything else.
        InvalidInput, TooLarge: it is no root, or nobody could sign after it.
    """
    metadata = parse(pending, Root, "the pending root")
    found = metadata.signed
    try:
        keys = repository.top_level_keys(found)
    except (KeyError, IndexError) as error:
        raise InvalidInput("the pending root: a role has no key, or one that is missing") from error
    expected = repository.next_root(present, keys, now, lifetimes)
    objections = []
    if found.version != expected.version:
        objections.append(f"root {found.version} does not follow {present.version}")
    elif expected.to_dict() | {"expires": ""} != found.to_dict() | {"expires": ""}:
        objections.append("it changes more than keys and thresholds")
    objections += expiry_objections(found, now, lifetimes.root)
    if objections:
        raise NotWhatWasShown(objections)
    role = present.roles[ROOT]
    return Checked(
        payload=metadata.signed_bytes,
        role=ROOT,
        version=found.version,
        expires=found.expires,
        says=tuple(_changes(present, found)) or (NOTHING,),
        signers=tuple(repository.holder(present.keys[keyid]) for keyid in role.keyids),
        threshold=role.threshold,
    )


def check_targets(
    root: Root,
    present: Targets,
    pending: bytes,
    now: datetime,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> Checked:
    """The pending targets, if they follow the present ones and change nothing but the directors.

    Raises:
        NotWhatWasShown: they do anything else; lists all of it.
        InvalidInput, TooLarge: they are no targets, or name no director.
    """
    metadata = parse(pending, Targets, "the pending targets")
    after = directors(metadata.signed)
    expected = repository.with_director(present, after, now, lifetimes)
    objections = differences(expected, metadata.signed)
    objections += expiry_objections(metadata.signed, now, lifetimes.targets)
    if objections:
        raise NotWhatWasShown(objections)
    role = root.roles[TARGETS]
    return Checked(
        payload=metadata.signed_bytes,
        role=TARGETS,
        version=metadata.signed.version,
        expires=metadata.signed.expires,
        says=tuple(_exchanged("director", directors(present), after)) or (NOTHING,),
        signers=tuple(repository.holder(root.keys[keyid]) for keyid in role.keyids),
        threshold=role.threshold,
    )


def check(trusted: TrustedImage, pending: bytes, now: datetime) -> Checked:
    """``check_root`` or ``check_targets``, whichever it is.

    Raises:
        NotWhatWasShown, InvalidInput, TooLarge: as they do.
    """
    if _is_root(pending):
        return check_root(trusted.root, pending, now)
    return check_targets(trusted.root, trusted.targets, pending, now)


def may_sign(present: Root, pending: bytes) -> Mapping[str, Key]:
    """The keys, by id, whose signature on it counts: a root's own, too, beside the present one's.

    Raises:
        InvalidInput: it is neither root nor targets.
    """
    if not _is_root(pending):
        return {keyid: present.keys[keyid] for keyid in present.roles[TARGETS].keyids}
    both = (present, parse(pending, Root, WHAT).signed)
    return {keyid: root.keys[keyid] for root in both for keyid in root.roles[ROOT].keyids}


def with_offline_signature(pending: bytes, key: Key, sig: bytes) -> bytes:
    """It, with one verified signature more.

    Raises:
        BadSignature: it is not this key's signature of it.
    """
    if _is_root(pending):
        return with_signature(parse(pending, Root, WHAT), key, sig)
    return with_signature(parse(pending, Targets, WHAT), key, sig)


def lacking(present: Root, pending: bytes) -> int:
    """How many signatures are missing: a root needs enough of the present one's keys and of its own.

    Raises:
        InvalidInput: it is neither root nor targets.
    """
    if _is_root(pending):
        following = parse(pending, Root, WHAT)
        counts = [signers_of(root, ROOT, following) for root in (present, following.signed)]
    else:
        counts = [signers_of(present, TARGETS, parse(pending, Targets, WHAT))]
    return max(max(0, threshold - len(keyids)) for keyids, threshold in counts)


def _is_root(pending: bytes) -> bool:
    try:
        parse(pending, Root, WHAT)
    except InvalidInput:
        return False
    return True


def _changes(before: Root, after: Root) -> Iterable[str]:
    for role in TOP_LEVEL:
        then, now = before.roles[role], after.roles[role]
        yield from _exchanged(
            role,
            [before.keys[keyid] for keyid in then.keyids],
            [after.keys[keyid] for keyid in now.keyids],
        )
        if (then.threshold, len(then.keyids)) != (now.threshold, len(now.keyids)):
            yield (
                f"{role}: {now.threshold} of {len(now.keyids)} must sign, "
                f"not {then.threshold} of {len(then.keyids)}"
            )
    own, named = after.roles[ROOT], before.roles[ROOT]
    if (own.threshold, own.keyids) != (named.threshold, named.keyids):
        names = ", ".join(repository.holder(after.keys[keyid]) for keyid in own.keyids)
        yield f"{own.threshold} of {names} must sign it, too: they vouch for what follows"


def _exchanged(role: str, before: Sequence[Key], after: Sequence[Key]) -> Iterable[str]:
    kept = {key.keyid for key in before} & {key.keyid for key in after}
    for keys, word in ((before, "no more"), (after, "new")):
        for key in keys:
            if key.keyid not in kept:
                yield f"{role}: {word} {repository.holder(key)} ({key.keyid[:12]})"
