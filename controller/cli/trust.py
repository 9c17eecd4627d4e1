"""`muster trust`: who signs what; renewed and changed with the offline keys."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.client import ApiClient
from controller.cli.output import CommandFailed, Output, OutputOption, say, show_json, show_rows

if TYPE_CHECKING:
    from controller.signing.approval import TrustedImage
    from protos.keys import Signer
    from protos.tuf import Root

app = typer.Typer(
    no_args_is_help=True, help="Who signs what: show; renew, change and sign with offline keys."
)

KeysOption = Annotated[
    list[Path], typer.Option("--key", help="An offline private key: NAME.pem; several if needed.")
]
SaveOption = Annotated[
    Path | None,
    typer.Option(help="Where to leave what others must sign too; else VERSION.ROLE.json, here."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")]
COLUMNS = {"role": "role", "signers": "signed by", "version": "version", "expires": "until",
           "by": "kept by"}  # fmt: skip
OFFLINE, ONLINE = "people, with offline keys", "the controller, by itself"
ONLINE_ROLES = ("snapshot", "timestamp")


@app.command()
def show(output: OutputOption = Output.TABLE) -> None:
    """Show every role, whose keys sign it, and until when, verified from the root that you pin.

    What has expired stops new installs, and nothing that runs.

    ```
    muster trust show
    ```
    """
    from controller.cli.signing import trusted_top  # noqa: PLC0415 - quick --help

    with ApiClient() as api:
        rows = list(_roles(api, trusted_top(api)))
    if output is Output.JSON:
        show_json(rows)
        return
    show_rows([{**row, "signers": _needed(row)} for row in rows], COLUMNS, output, "nothing")


@app.command()
def renew(key: KeysOption, save: SaveOption = None, yes: YesOption = False) -> None:
    """Begin a new lifetime of root and of targets: of those that the keys given may sign.

    Both are good for a year. A model's own role is renewed with every version that is approved, and
    by its approvers with `muster model renew`.

    ```
    muster trust renew --key root-1.pem --key root-2.pem --key targets.pem
    ```
    """
    from controller.cli.signing import signer_at, trusted_top  # noqa: PLC0415 - quick --help
    from controller.signing import ceremony, repository  # noqa: PLC0415

    signers = [signer_at(path) for path in key]
    with ApiClient() as api:
        trusted = trusted_top(api)
        done = 0
        if _may_sign(trusted.root, "root", signers):
            keys = repository.top_level_keys(trusted.root)
            data = ceremony.following_root(trusted.root, keys, datetime.now(UTC))
            _conclude(api, trusted, data, signers, save, ask=not yes)
            done += 1
            trusted = trusted_top(api)
        if _may_sign(trusted.root, "targets", signers):
            directors = ceremony.directors(trusted.targets)
            data = ceremony.following_targets(trusted.targets, directors, datetime.now(UTC))
            _conclude(api, trusted, data, signers, save, ask=not yes)
            done += 1
    if not done:
        raise _no_such_signer("root or targets")


@app.command()
def change(
    role: Annotated[
        str,
        typer.Argument(metavar="ROLE", help="root, targets, director, snapshot or timestamp."),
    ],
    key: KeysOption,
    add: Annotated[
        list[Path] | None, typer.Option(help="A public key that may sign from now on: NAME.json.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="The name of a key that may sign no more.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(min=1, help="How many of the keys must sign; of root and targets.")
    ] = None,
    save: SaveOption = None,
    yes: YesOption = False,
) -> None:
    """Change whose keys sign a role: signed with the root keys, for `director` with the targets keys.

    Keys of the controller itself (director, snapshot, timestamp): put the new key files into its
    keys folder, start it anew, and change the role at once. Targets keys: add the new one, `renew`
    targets with it, then remove the old one.

    ```
    muster trust change root --add dave.json --remove root-3 --key root-1.pem --key root-2.pem
    muster trust change director --add keys/director.json --remove director --key targets.pem
    ```
    """
    from controller.cli.signing import public_key_at, signer_at, trusted_top  # noqa: PLC0415
    from controller.signing import ceremony  # noqa: PLC0415 - quick --help
    from controller.signing.repository import named  # noqa: PLC0415

    if role not in {*ceremony.TOP_LEVEL, "director"}:
        raise typer.BadParameter(f"{role!r} is not root, targets, director, snapshot or timestamp")
    if not (add or remove or threshold):
        raise typer.BadParameter("nothing to change: --add, --remove or --threshold")
    signers = [signer_at(path) for path in key]
    entries = [public_key_at(path) for path in add or ()]
    new = [named(entry.key, entry.holder) for entry in entries]
    now = datetime.now(UTC)
    with ApiClient() as api:
        trusted = trusted_top(api)
        if role == "director":
            if threshold is not None:
                raise typer.BadParameter("--threshold: one director signs a directive")
            present = ceremony.directors(trusted.targets)
            keys = ceremony.changed(present, role, new, remove or ())
            data = ceremony.following_targets(trusted.targets, keys, now)
        else:
            present = [trusted.root.keys[one] for one in trusted.root.roles[role].keyids]
            keys = ceremony.changed(present, role, new, remove or ())
            top = ceremony.with_role(trusted.root, role, keys, threshold)
            data = ceremony.following_root(trusted.root, top, now)
        _conclude(api, trusted, data, signers, save, ask=not yes)


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What another has left unfinished.")],
    key: KeysOption,
    yes: YesOption = False,
) -> None:
    """Add your signature to a root or targets that need several; with the last they are published.

    Your machine checks first, from the root that your profile pins, what it is that you would sign.

    ```
    muster trust sign 2.root.json --key carol.pem
    ```
    """
    from controller.cli.signing import signer_at, trusted_top  # noqa: PLC0415 - quick --help

    signers = [signer_at(path) for path in key]
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CommandFailed("bad-input", f"{file}: {error.strerror}", "Check the path.") from error
    with ApiClient() as api:
        _conclude(api, trusted_top(api), data, signers, file, ask=not yes)


def _conclude(
    api: ApiClient,
    trusted: "TrustedImage",
    data: bytes,
    signers: Sequence["Signer"],
    save: Path | None,
    *,
    ask: bool,
) -> None:
    """Checks, shows, signs; publishes if it is enough, else leaves it for the others to sign."""
    from controller.cli.signing import confirm  # noqa: PLC0415 - quick --help
    from controller.signing import approval, ceremony  # noqa: PLC0415

    checked = ceremony.check(trusted, data, datetime.now(UTC))
    keys = ceremony.may_sign(trusted.root, data)
    may = [signer for signer in signers if signer.public_key.keyid in keys]
    if not may:
        raise _no_such_signer(checked.role)
    confirm(checked, ask=ask)
    for signer in may:
        signature = approval.sign(checked, signer)
        key = keys[signature.keyid]
        data = ceremony.with_offline_signature(data, key, bytes.fromhex(signature.signature))
    lacking = ceremony.lacking(trusted.root, data)
    if lacking:
        _leave(save or Path(f"{checked.version}.{checked.role}.json"), data)
        say(f"{checked.role} {checked.version} is signed; {lacking} more must sign it:")
        path = save or f"{checked.version}.{checked.role}.json"
        say(f"each runs `muster trust sign {path} --key NAME.pem`")
        return
    api.put(f"/{checked.role}", {"metadata": data.decode()})
    say(f"{checked.role} {checked.version} is published, good until {checked.expires:%Y-%m-%d}")


def _leave(path: Path, data: bytes) -> None:
    try:
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError as error:
        raise CommandFailed(
            "bad-input", f"{path}: {error.strerror}", "Name another file with --save."
        ) from error


def _may_sign(root: "Root", role: str, signers: Sequence["Signer"]) -> bool:
    named = set(root.roles[role].keyids)
    return any(signer.public_key.keyid in named for signer in signers)


def _no_such_signer(role: str) -> CommandFailed:
    return CommandFailed(
        "bad-signature",
        f"none of these keys may sign {role}",
        "`muster trust show` says whose keys may.",
    )


def _roles(api: ApiClient, trusted: "TrustedImage") -> Any:
    from controller.cli.signing import stored_metadata  # noqa: PLC0415 - quick --help
    from controller.signing import ceremony, repository  # noqa: PLC0415
    from controller.signing.metadata import parse  # noqa: PLC0415
    from protos.manifest import role_name  # noqa: PLC0415
    from protos.tuf import Snapshot, Targets, Timestamp  # noqa: PLC0415

    root, targets = trusted.root, trusted.targets

    def row(
        role: str, version: int, expires: object, keys: Sequence[Any], threshold: int
    ) -> dict[str, Any]:
        names = [repository.holder(key) for key in keys]
        by = OFFLINE if role not in {*ONLINE_ROLES, "director"} else ONLINE
        return {"role": role, "signers": names, "threshold": threshold, "version": version,
                "expires": f"{expires:%Y-%m-%d %H:%M}" if expires else "", "by": by}  # fmt: skip

    present = {
        "root": (root.version, root.expires),
        "targets": (targets.version, targets.expires),
    }
    snapshot, timestamp = (stored_metadata(api, f"{role}.json") for role in ONLINE_ROLES)
    if snapshot is not None and timestamp is not None:
        newest, fresh = (
            parse(snapshot, Snapshot, "snapshot"),
            parse(timestamp, Timestamp, "timestamp"),
        )
        present["snapshot"] = (newest.signed.version, newest.signed.expires)
        present["timestamp"] = (fresh.signed.version, fresh.signed.expires)
    for role, (version, expires) in present.items():
        keys = [root.keys[keyid] for keyid in root.roles[role].keyids]
        yield row(role, version, expires, keys, root.roles[role].threshold)
    yield row("director", targets.version, None, ceremony.directors(targets), 1)
    for model, delegated in sorted(repository.models_of(targets).items()):
        data = stored_metadata(api, f"{role_name(model)}.json")
        keys = [targets.get_key(keyid) for keyid in delegated.keyids]
        if data is None:
            yield row(f"model {model}", 0, None, keys, delegated.threshold)
            continue
        signed = parse(data, Targets, model).signed
        yield row(f"model {model}", signed.version, signed.expires, keys, delegated.threshold)


def _needed(row: Mapping[str, Any]) -> str:
    names = ", ".join(row["signers"])
    return names if len(row["signers"]) == 1 else f"{row['threshold']} of {names}"
