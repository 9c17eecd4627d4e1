"""The signing side of commands: what is checked on this machine before a key is used.

The controller is not trusted here: what is present is verified from the root that the profile pins.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import typer

from controller.cli.client import ApiClient
from controller.cli.output import CommandFailed, console
from controller.errors import BadSignature, ConfigError, InvalidInput, NotFound
from controller.registry.version import Change, State
from controller.signing import approval
from controller.signing.keyring import PublicKeyFile, encode
from controller.signing.metadata import parse
from controller.signing.repository import named
from controller.store.key_files import KeyFiles, read_public_key
from protos.errors import DocumentError
from protos.keys import Signer
from protos.manifest import Role, parse_reference, read_manifest, role_name
from protos.tuf import Root, Targets

MOST_FORMER: Final = 20
"""How far back is searched for the targets that named former approvers."""
_PRIVATE: Final = (
    "Name a private key, NAME.pem, that only you may read; NAME.json must stand beside it. "
    "`muster key create NAME` makes both."
)
_PUBLIC: Final = (
    "Name a public key, NAME.json: its owner has made it with `muster key create NAME`."
)


def signer_at(path: Path) -> Signer:
    """What signs with the key at NAME.pem or NAME.json.

    Raises:
        CommandFailed: there is no such key, or it can't be used.
    """
    try:
        return KeyFiles(path.absolute().parent).signer(path.stem)
    except (NotFound, ConfigError, InvalidInput) as error:
        detail = error.detail
        if path.name and isinstance(error, NotFound) and not _is_there(path):
            detail = f"{path}: no such key"
        raise CommandFailed(error.code, detail, _PRIVATE) from error


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def public_key_at(path: Path) -> PublicKeyFile:
    """The public half of the key at NAME.json or NAME.pem.

    Raises:
        CommandFailed: there is no such key, or it can't be read.
    """
    named = path.with_suffix(".json") if path.name else path
    try:
        return read_public_key(named)
    except (NotFound, ConfigError, InvalidInput) as error:
        raise CommandFailed(error.code, error.detail, _PUBLIC) from error


def trusted_top(api: ApiClient) -> approval.TrustedImage:
    """The present root and targets, verified from the root that the profile pins.

    Raises:
        ControllerError, CommandFailed: they can't be had, or do not hold.
    """
    pinned, newer, targets = _top(api)
    return approval.trusted_image(pinned, newer, targets, None, "")


def trusted_image(api: ApiClient, model: str) -> approval.TrustedImage:
    """The present image metadata, verified from the root that the profile pins.

    Right after a change of approvers the role is still signed by the former ones, whom older
    targets name.

    Raises:
        ControllerError, CommandFailed: it can't be had, or does not hold.
    """
    pinned, newer, targets = _top(api)
    role = stored_metadata(api, f"{role_name(model)}.json")
    try:
        return approval.trusted_image(pinned, newer, targets, role, model)
    except BadSignature:
        if role is None:
            raise
        former = _older(api, "targets", targets)
        return approval.trusted_image(pinned, newer, targets, role, model, former)


def _top(api: ApiClient) -> tuple[bytes, list[bytes], bytes]:
    """(the pinned root, those that followed it, the present targets)."""
    path = Path(api.profile.root)
    try:
        pinned = path.read_bytes()
    except OSError as error:
        raise CommandFailed("profile", f"{path}: {error.strerror}", "Log in anew.") from error
    newer: list[bytes] = []
    version = parse(pinned, Root, str(path)).signed.version
    while (root := stored_metadata(api, f"{version + len(newer) + 1}.root.json")) is not None:
        newer.append(root)
    return pinned, newer, stored_metadata(api, "targets.json") or b""


def _older(api: ApiClient, role: str, present: bytes) -> list[bytes]:
    """The metadata that came before, newest first."""
    version = parse(present, Targets, role).signed.version
    names = [f"{older}.{role}.json" for older in range(version - 1, 0, -1)[:MOST_FORMER]]
    return [data for name in names if (data := stored_metadata(api, name)) is not None]


def sign_pending(
    api: ApiClient, reference: str, change: Change, key: Path, floor: int = 0, *, ask: bool
) -> dict[str, Any]:
    """Checks what waits for the version, shows it, signs it and brings the signature back.

    Returns the controller's answer: ``signed_by``, ``threshold``, ``published``.

    Raises:
        ControllerError, CommandFailed: it is not what was shown, or the key can't be used.
    """
    model, version = parse_reference(reference)
    place = f"/models/{model}/versions/{version}"
    signer = signer_at(key)
    pending = _pending(api, place, model, version)
    manifest = api.download(f"{place}/manifest")
    train_step = b""
    if change is Change.ADD and names_train_step(manifest):
        train_step = api.download(f"{place}/files/train_step")
    checked = approval.check_version(
        trusted_image(api, model),
        pending["metadata"].encode(),
        approval.Shown(model, version, change, manifest, floor, train_step),
        datetime.now(UTC),
    )
    confirm(checked, ask=ask)
    signature = approval.sign(checked, signer)
    answer: dict[str, Any] = api.post(
        f"{place}/signatures", {"keyid": signature.keyid, "sig": signature.signature}
    )
    return answer


def names_train_step(manifest: bytes) -> bool:
    """Whether a version's devices may train it: then who signs for it must see how."""
    try:
        return Role.TRAIN_STEP in read_manifest(manifest).files
    except DocumentError:
        return False  # checked below, and said there


def _pending(api: ApiClient, place: str, model: str, version: int) -> Any:
    """What waits for a signature; if nothing does, says why."""
    try:
        return api.get(f"{place}/pending")
    except CommandFailed as error:
        if error.code != "not-found":
            raise
        found = api.get(place)
        detail, remedy = f"nothing of {model}/{version} waits for a signature", error.remedy
        match State(found["state"]):
            case State.VALIDATED if not api.get(f"/models/{model}")["approvers"]:
                detail += f": {model} has no approvers yet"
                remedy = f"Name them first: `muster model create {model} --help` says how."
            case State.PUBLISHED:
                detail += ": it is published already"
                remedy = f"Nothing to do; `muster rollout start {model}/{version} --to SELECTOR`."
            case state:
                detail += f": it is {state}"
                remedy = f"Register the model again: `muster model register {model} --help`."
        raise CommandFailed(error.code, detail, remedy) from error


def sign_delegation(
    api: ApiClient,
    model: str,
    approvers: Sequence[Path],
    threshold: int,
    keys: Sequence[Path],
    *,
    ask: bool,
) -> None:
    """Has targets name the model's approvers: proposed there, checked and signed here.

    Raises:
        ControllerError, CommandFailed: it is not what was asked for, or a key can't be used.
    """
    entries = [public_key_at(path) for path in approvers]
    signers = [signer_at(path) for path in keys]  # nothing is proposed that can't be signed
    proposed = api.post(
        f"/models/{model}/delegation",
        {"approvers": [_form(entry) for entry in entries], "threshold": threshold},
    )
    metadata = proposed["metadata"]
    checked = approval.check_delegation(
        trusted_top(api),
        metadata.encode(),
        model,
        [named(entry.key, entry.holder) for entry in entries],
        threshold,
        datetime.now(UTC),
    )
    confirm(checked, ask=ask)
    for signer in signers:
        signature = approval.sign(checked, signer)
        body = {"metadata": metadata, "keyid": signature.keyid, "sig": signature.signature}
        metadata = api.post("/targets/signatures", body)["metadata"]
    api.put("/targets", {"metadata": metadata})


def confirm(checked: approval.Checked, *, ask: bool) -> None:
    """Shows what would be signed, and returns if the person says yes, or is not to be asked.

    Raises:
        typer.Abort: the person says no.
    """
    out = console()
    out.print(f"[bold]You are about to sign[/bold] {checked.role}, version {checked.version}:")
    for line in checked.says:
        out.print(f"  {line}", markup=False)
    out.print(
        f"  {checked.threshold} of {', '.join(checked.signers)} must sign;"
        f" good until {checked.expires:%Y-%m-%d}",
        markup=False,
    )
    if ask:
        typer.confirm("sign?", abort=True)


def stored_metadata(api: ApiClient, name: str) -> bytes | None:
    """Metadata by its file name, as it comes; None if there is none."""
    try:
        return api.download(f"/metadata/{name}")
    except CommandFailed as error:
        if error.code == "not-found":
            return None
        raise


def _form(entry: PublicKeyFile) -> Any:
    return msgspec.json.decode(encode(entry))
