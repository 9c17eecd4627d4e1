"""What a person's own machine checks before it signs: the pending metadata does what was shown.

The controller is not trusted here. What counts as present comes from the root that is pinned on this
machine (``trusted_image``), and only what was checked can be signed (``sign`` takes a ``Checked``).
Every objection is listed, not only the first.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from controller.errors import ConfigError, ControllerError, NotWhatWasShown
from controller.registry import training_text
from controller.registry.version import Change
from controller.signing import repository
from controller.signing.metadata import parse, require_signed, signers_of
from controller.signing.roles import DEFAULT_LIFETIMES, TARGETS, Lifetimes
from protos.documents import sha256
from protos.errors import DocumentError
from protos.image import restrictions
from protos.keys import Key, Signature, Signer
from protos.limits import MIB
from protos.manifest import Manifest, Role, read_manifest, role_name, target_path
from protos.tuf import Metadata, Root, Targets

CLOCKS_DIFFER: Final = timedelta(days=1)
"""How far the controller's clock may be ahead of this machine's."""


@dataclass(frozen=True, slots=True)
class TrustedImage:
    """The present roles, verified from a pinned root on.

    Attributes:
        role: one model's, if it has any yet.
        inherited: the role was signed by former approvers, not by those that ``targets`` name now.
    """

    root: Root
    targets: Targets
    role: Targets | None
    inherited: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """Metadata that was found to do what was shown, and nothing else.

    Attributes:
        payload: the very bytes that a signature covers.
        role: the metadata role; ``version`` is the metadata's.
        says: what it does, a line each, for the person who signs.
        threshold: how many of the ``signers`` (names) must sign.
    """

    payload: bytes
    role: str
    version: int
    expires: datetime
    says: tuple[str, ...]
    signers: tuple[str, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What the person was told that the signature will do.

    ``release_floor`` is for a recall; ``train_step`` is the file of a version that has one.
    """

    model: str
    version: int
    change: Change
    manifest: bytes
    release_floor: int = 0
    train_step: bytes = b""


def trusted_image(
    pinned_root: bytes,
    newer_roots: Sequence[bytes],
    targets: bytes,
    role: bytes | None,
    model: str,
    former_targets: Sequence[bytes] = (),
) -> TrustedImage:
    """The present targets and the present role of ``model``, verified from the pinned root on.

    ``newer_roots`` are the roots that followed, in order. ``role`` is None for a model that has no
    metadata yet: let the caller's own record of what it has signed before say so, too. Right after a
    change of approvers the role is still signed by the former ones: ``former_targets``, newest first,
    are the targets that named them.

    Raises:
        BadSignature, InvalidInput, TooLarge: something is not what the root says it must be.
        NotWhatWasShown: the roots do not follow each other.
    """
    roots = _chain(pinned_root, newer_roots)
    top = parse(targets, Targets, "targets")
    require_signed(roots[-1], TARGETS, top)
    if role is None:
        return TrustedImage(roots[-1], top.signed, None)
    present = parse(role, Targets, role_name(model))
    if _enough(top.signed, role_name(model), present):
        return TrustedImage(roots[-1], top.signed, present.signed)
    for data in former_targets:
        former = parse(data, Targets, "former targets")
        vouched = any(_enough(root, TARGETS, former) for root in roots)
        if vouched and _enough(former.signed, role_name(model), present):
            return TrustedImage(roots[-1], top.signed, present.signed, inherited=True)
    require_signed(top.signed, role_name(model), present)
    return TrustedImage(roots[-1], top.signed, present.signed)


def check_version(
    trusted: TrustedImage,
    pending: bytes,
    shown: Shown,
    now: datetime,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> Checked:
    """The pending metadata of a model's role, if it adds or recalls just the version shown.

    Raises:
        NotWhatWasShown: it does anything else; lists all of it.
        InvalidInput, TooLarge: it is no metadata.
    """
    metadata = parse(pending, Targets, "the pending metadata")
    manifest, objections = _manifest_objections(shown)
    if manifest is not None:
        expected, more = _expected(trusted.role, shown, now, lifetimes)
        objections += more
        if expected is not None:
            objections += differences(expected, metadata.signed)
    objections += expiry_objections(metadata.signed, now, lifetimes.model)
    delegation = repository.delegation(trusted.targets, shown.model)
    if delegation is None:
        objections.append(f"the model {shown.model} has no approvers in the signed targets")
    if objections or delegation is None or manifest is None:
        raise NotWhatWasShown(objections)
    return Checked(
        payload=metadata.signed_bytes,
        role=role_name(shown.model),
        version=metadata.signed.version,
        expires=metadata.signed.expires,
        says=tuple(_says(shown, manifest, metadata.signed, inherited=trusted.inherited)),
        signers=tuple(_names(trusted.targets, delegation.keyids)),
        threshold=delegation.threshold,
    )


def check_delegation(
    trusted: TrustedImage,
    pending: bytes,
    model: str,
    approvers: Sequence[Key],
    threshold: int,
    now: datetime,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> Checked:
    """Pending targets, if they name these approvers of ``model`` and change nothing else.

    Raises:
        NotWhatWasShown: they do anything else; lists all of it.
        InvalidInput, TooLarge: they are no metadata, or the threshold can't be reached.
    """
    metadata = parse(pending, Targets, "the pending targets")
    expected = repository.with_delegation(
        trusted.targets, model, approvers, threshold, now, lifetimes
    )
    objections = differences(expected, metadata.signed)
    objections += expiry_objections(metadata.signed, now, lifetimes.targets)
    if objections:
        raise NotWhatWasShown(objections)
    names = ", ".join(repository.holder(key) for key in approvers)
    role = trusted.root.roles[TARGETS]
    return Checked(
        payload=metadata.signed_bytes,
        role=TARGETS,
        version=metadata.signed.version,
        expires=metadata.signed.expires,
        says=(f"versions of {model} need {threshold} of {len(approvers)}: {names}",),
        signers=tuple(repository.holder(trusted.root.keys[keyid]) for keyid in role.keyids),
        threshold=role.threshold,
    )


def sign(checked: Checked, signer: Signer) -> Signature:
    """The signature of exactly what was checked.

    Raises:
        ConfigError: the key can't be used.
    """
    try:
        return signer.sign(checked.payload)
    except (ValueError, OSError) as error:
        raise ConfigError(f"the key {signer.public_key.keyid[:12]} can't sign: {error}") from error


def _chain(pinned: bytes, newer: Sequence[bytes]) -> list[Root]:
    """The pinned root and those that followed, each signed by the one before and by itself."""
    first = parse(pinned, Root, "the pinned root")
    require_signed(first.signed, "root", first)
    roots = [first.signed]
    for data in newer:
        version = roots[-1].version + 1
        following = parse(data, Root, f"root {version}")
        if following.signed.version != version:
            found = following.signed.version
            raise NotWhatWasShown([f"root {found} does not follow {version - 1}"])
        require_signed(roots[-1], "root", following)
        require_signed(following.signed, "root", following)
        roots.append(following.signed)
    return roots


def _enough(delegator: Root | Targets, role: str, metadata: Metadata[Targets]) -> bool:
    try:
        signed, threshold = signers_of(delegator, role, metadata)
    except ValueError:  # nobody is named for the role
        return False
    return len(signed) >= threshold


def _manifest_objections(shown: Shown) -> tuple[Manifest | None, list[str]]:
    try:
        manifest = read_manifest(shown.manifest)
    except DocumentError as error:
        return None, [f"the manifest can't be read: {error}"]
    if (manifest.model, manifest.version) != (shown.model, shown.version):
        return manifest, [f"the manifest is of {manifest.reference}"]
    if shown.change is Change.ADD:
        return manifest, list(training_text.objections(manifest, shown.train_step))
    return manifest, []


def _expected(
    present: Targets | None, shown: Shown, now: datetime, lifetimes: Lifetimes
) -> tuple[Targets | None, list[str]]:
    """What the pending metadata must be, but for its expiry; or why there can be none."""
    try:
        if shown.change is Change.ADD:
            return repository.with_version(present, shown.manifest, now, lifetimes), []
        if present is None:
            return None, [f"{shown.model} has no published versions"]
        if shown.change is Change.RENEW:
            return repository.renewed(present, shown.model, now, lifetimes), []
        listed = present.targets.get(target_path(shown.model, shown.version))
        recalled = repository.with_recall(
            present, shown.model, shown.version, shown.release_floor, now, lifetimes
        )
    except ControllerError as error:
        return None, [error.detail]
    if listed is not None and listed.hashes.get("sha256") != sha256(shown.manifest):
        return recalled, ["the version that is listed has another manifest than the one shown"]
    return recalled, []


def differences(expected: Targets, found: Targets) -> list[str]:
    """How ``found`` differs from what it must be, in plain words, but for its expiry."""
    try:
        wanted, got = _comparable(expected), _comparable(found)
        if wanted == got:
            return []
    except RecursionError:
        return ["its fields are nested too deeply to be compared"]
    objections = []
    if found.version != expected.version:
        objections.append(f"it has version {found.version}, not {expected.version}")
    objections += _mapping_differences("target", wanted.pop("targets"), got.pop("targets"))
    for side in (wanted, got):
        side.pop("version")
        delegations = side.pop("delegations", {})
        roles = {role["name"]: role for role in delegations.get("roles", [])}
        side |= {f"approvers of {name}": role for name, role in roles.items()}
        side["keys"] = delegations.get("keys", {})
        side["order of delegations"] = list(roles)
    return objections + _mapping_differences("field", wanted, got)


def _mapping_differences(what: str, wanted: dict[str, Any], got: dict[str, Any]) -> list[str]:
    return [
        *(f"it adds the {what} {name!r}" for name in sorted(got.keys() - wanted.keys())),
        *(f"it lacks the {what} {name!r}" for name in sorted(wanted.keys() - got.keys())),
        *(
            f"it has another {what} {name!r} than shown"
            for name in sorted(wanted.keys() & got.keys())
            if wanted[name] != got[name]
        ),
    ]


def _comparable(signed: Targets) -> dict[str, Any]:
    fields = copy.deepcopy(signed.to_dict())
    fields.pop("expires")
    return fields


def expiry_objections(signed: Root | Targets, now: datetime, lifetime: timedelta) -> list[str]:
    """Why the metadata's expiry can't stand, in plain words."""
    if signed.expires <= now:
        return [f"it expired on {signed.expires:%Y-%m-%d}: have it proposed anew"]
    if signed.expires > now + lifetime + CLOCKS_DIFFER:
        return [f"it would be valid until {signed.expires:%Y-%m-%d}, longer than allowed"]
    return []


def _says(shown: Shown, manifest: Manifest, signed: Targets, *, inherited: bool) -> Iterable[str]:
    match shown.change:
        case Change.ADD:
            yield f"publishes {manifest.reference}"
            yield from _facts(manifest)
            yield from training_text.sentences(manifest, shown.train_step)
        case Change.RECALL:
            yield f"recalls {manifest.reference} for ever"
        case Change.RENEW:
            yield f"changes nothing of {manifest.model} but the expiry"
    yield f"manifest {sha256(shown.manifest)}, {len(shown.manifest)} bytes"
    floor = restrictions(signed.unrecognized_fields).release_floor
    if floor:
        yield f"nothing below release counter {floor} may run"
    listed = len(signed.targets)
    yield f"{listed} version{'s' * (listed != 1)} listed afterwards"
    if inherited:
        yield "former approvers signed what is listed; from now on you vouch for all of it:"
        for path, target in sorted(signed.targets.items()):
            yield f"{path} with manifest {target.hashes.get('sha256', 'without SHA-256')}"


def _facts(manifest: Manifest) -> Iterable[str]:
    """What the signed manifest says of the version: what an approver decides by."""
    takes, gives = (
        ", ".join(f"{one.name} {one.dtype}{list(one.shape)} {one.semantic}" for one in tensors)
        for tensors in (manifest.inputs, manifest.outputs)
    )
    yield f"takes {takes or 'nothing'}; gives {gives or 'nothing'}"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(manifest.metrics.items()))
    if metrics:
        yield f"measured {metrics}"
    budgets = manifest.budgets
    yield (
        f"may take {budgets.latency_p99_seconds * 1e3:.3g} ms (99%) "
        f"and {budgets.memory_bytes / MIB:,.0f} MiB on a device"
    )
    model = manifest.files.get(Role.MODEL)
    if model is not None:
        yield f"model file {model.sha256}, {model.length} bytes"


def _names(targets: Targets, keyids: Iterable[str]) -> Iterable[str]:
    return (repository.holder(targets.get_key(keyid)) for keyid in keyids)
