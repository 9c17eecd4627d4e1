"""`muster model`: models and their versions, from a file to a recall."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from controller.cli.client import ApiClient
from controller.cli.device import moment
from controller.cli.output import (
    CommandFailed,
    Output,
    OutputOption,
    console,
    show_fields,
    show_json,
    show_rows,
)

app = typer.Typer(no_args_is_help=True, help="Models: create, register, approve, recall, alias, …")

ModelArgument = Annotated[str, typer.Argument(help="The model's name.")]
VersionArgument = Annotated[str, typer.Argument(metavar="MODEL/VERSION")]
KeyOption = Annotated[Path, typer.Option("--key", help="Your private key: NAME.pem.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")]
COLUMNS = {"version": "version", "state": "state", "waits": "waits for", "aliases": "aliases",
           "metrics": "metrics", "registered": "registered", "registered_by": "by"}  # fmt: skip


@app.command()
def create(
    name: ModelArgument,
    approver: Annotated[list[Path], typer.Option(help="An approver's public key file: NAME.json.")],
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign a version.")],
    targets_key: Annotated[
        list[Path], typer.Option(help="The offline targets key: offline/targets.pem.")
    ],
    yes: YesOption = False,
) -> None:
    """Say who approves a model's versions, or change it: signed with the offline targets key.

    Devices check the approvers' signatures themselves, against what is signed here.
    """
    from controller.cli.signing import sign_delegation  # noqa: PLC0415 - quick --help

    with ApiClient() as api:
        sign_delegation(api, name, approver, threshold, targets_key, ask=not yes)
    console().print(f"versions of {name} need {threshold} of {len(approver)} approvers")


@app.command()
def register(
    name: ModelArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The model.")],
    reference: Annotated[
        Path,
        typer.Option(help=".npz with an array for each input; `label` holds the truth, if known."),
    ],
    semantic: Annotated[
        list[str] | None,
        typer.Option(help="NAME=numeric|categorical|image|label|probability|score."),
    ] = None,
    at_least: Annotated[list[str] | None, typer.Option(help="Gate: METRIC=VALUE.")] = None,
    card: Annotated[Path | None, typer.Option(help="Text for the card: .toml or .md.")] = None,
    git_commit: Annotated[str, typer.Option(help="Where its code stands.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Register a version: check the file, build its monitor and golden vectors, run the gates.

    What comes out waits for its approvers, or was rejected with all reasons.
    """
    options: dict[str, Any] = {"semantics": dict(_pair(one) for one in semantic or ())}
    options["metrics_at_least"] = {
        key: _number(key, text) for key, text in map(_pair, at_least or ())
    }
    if git_commit:
        options["git_commit"] = git_commit
    paths = {"model": file, "reference": reference, **({"text": card} if card else {})}
    made = _upload(name, paths, options)
    if output is Output.JSON:
        show_json({**made["version"], "notes": made["notes"]})
    else:
        _show(made["version"])
        for note in made["notes"]:
            console().print(f"  note: {note}", markup=False)
    if made["version"]["state"] == "rejected":
        raise CommandFailed(
            "rejected",
            f"{name}/{made['version']['version']}: {'; '.join(made['version']['reasons'])}",
            "Mend the model or the reference data and register again.",
        )
    if output is Output.TABLE:
        _next_step(made["version"])


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """Show every model, its approvers and its newest version."""
    with ApiClient() as api:
        found = api.get("/models")
    if output is Output.JSON:
        show_json(found)
        return
    rows = [
        {
            "name": one["name"],
            "versions": len(one["versions"]),
            "newest": one["versions"][-1]["version"] if one["versions"] else "",
            "state": one["versions"][-1]["state"] if one["versions"] else "",
            "approvers": f"{one['threshold']} of {', '.join(one['approvers'].values()) or 'nobody yet'}",
            "aliases": one["aliases"],
        }
        for one in found
    ]
    columns = {"name": "model", "versions": "versions", "newest": "newest", "state": "state",
               "approvers": "approvers", "aliases": "aliases"}  # fmt: skip
    show_rows(rows, columns, output, "no models: `muster model register NAME FILE.onnx …`")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="MODEL, MODEL/VERSION or MODEL@ALIAS.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a model with all its versions, or one version with everything that is signed for."""
    model, _, version = name.replace("@", "/").partition("/")
    with ApiClient() as api:
        place = f"/models/{model}" + (f"/versions/{version}" if version else "")
        found = api.get(place)
    if output is Output.JSON:
        show_json(found)
    elif version:
        _show(found)
        _next_step(found)
    else:
        title = f"{found['threshold']} of {', '.join(found['approvers'].values()) or 'nobody yet'}"
        show_fields(
            {"name": model, "approvers": title}, {"name": "model", "approvers": "approvers"}, output
        )
        console().print()
        show_rows([_row(one) for one in found["versions"]], COLUMNS, output, "no versions")


@app.command()
def approve(version: VersionArgument, key: KeyOption, yes: YesOption = False) -> None:
    """Approve a version: sign, here, the metadata that adds just this version.

    It is first checked on this machine, against the root that your profile pins, that it adds what is
    shown and changes nothing else.
    """
    from controller.cli.signing import sign_pending  # noqa: PLC0415 - quick --help
    from controller.registry.version import Change  # noqa: PLC0415

    with ApiClient() as api:
        _say(version, sign_pending(api, version, Change.ADD, key, ask=not yes), "published")


@app.command()
def recall(
    version: VersionArgument,
    key: KeyOption,
    floor: Annotated[
        int, typer.Option(min=0, help="Also forbid every version with a lower release counter.")
    ] = 0,
    yes: YesOption = False,
) -> None:
    """Recall a version for ever: no device runs it again, not even to fall back to it.

    It takes as many approvers' signatures as publishing it: each runs this command.
    """
    from controller.cli.signing import sign_pending  # noqa: PLC0415 - quick --help
    from controller.registry.version import Change  # noqa: PLC0415
    from protos.manifest import parse_reference  # noqa: PLC0415

    model, number = parse_reference(version)
    with ApiClient() as api:
        api.post(f"/models/{model}/versions/{number}/recall", {"release_floor": floor})
        answer = sign_pending(api, version, Change.RECALL, key, floor, ask=not yes)
        _say(version, answer, "recalled")


@app.command()
def withdraw(
    version: VersionArgument, reason: Annotated[str, typer.Option(help="For the record.")] = ""
) -> None:
    """Reject a version that is not published yet."""
    from protos.manifest import parse_reference  # noqa: PLC0415 - quick --help

    model, number = parse_reference(version)
    with ApiClient() as api:
        api.post(f"/models/{model}/versions/{number}/withdraw", {"reason": reason})
    console().print(f"{version} is rejected")


@app.command()
def alias(
    name: Annotated[str, typer.Argument(metavar="MODEL@ALIAS")],
    version: Annotated[
        int | None, typer.Argument(min=1, help="Left out: remove the alias.")
    ] = None,
) -> None:
    """Make MODEL@ALIAS name a version, or nothing."""
    model, at, called = name.partition("@")
    if not at:
        raise typer.BadParameter(f"{name!r} is not MODEL@ALIAS, such as digits@champion")
    with ApiClient() as api:
        place = f"/models/{model}/aliases/{called}"
        if version is None:
            api.delete(place)
        else:
            api.put(place, {"version": version})
    console().print(f"{name} is now {f'{model}/{version}' if version else 'nothing'}")


@app.command()
def card(version: VersionArgument) -> None:
    """Print a version's card, as CycloneDX JSON."""
    from protos.manifest import parse_reference  # noqa: PLC0415 - quick --help

    model, number = parse_reference(version)
    with ApiClient() as api:
        typer.echo(api.download(f"/models/{model}/versions/{number}/card").decode())


def _upload(name: str, paths: dict[str, Path], options: dict[str, Any]) -> Any:
    opened: dict[str, tuple[str, Any]] = {}
    try:
        for part, path in paths.items():
            opened[part] = (path.name, path.open("rb"))
        with (
            ApiClient() as api,
            console(error=True).status(f"registering {name}: check, run, profile, calibrate …"),
        ):
            fields = {"options": json.dumps(options)}
            return api.upload(f"/models/{name}/versions", opened, fields)
    except OSError as error:
        raise CommandFailed("bad-input", f"{error.filename}: {error.strerror}") from error
    finally:
        for _, file in opened.values():
            file.close()


def _row(version: dict[str, Any]) -> dict[str, Any]:
    waits = (
        f"{version['waits_for']}, {len(version['signed_by'])} signed"
        if version["waits_for"]
        else ""
    )
    metrics = {key: round(value, 4) for key, value in version["manifest"]["metrics"].items()}
    return {
        **version,
        "waits": waits,
        "metrics": metrics,
        "registered": moment(version["registered_at"]),
    }


def _show(version: dict[str, Any]) -> None:
    manifest = version["manifest"]
    tensors = [
        f"{one['name']} {one['dtype']}{one['shape']} {one['semantic']}"
        for one in (*manifest["inputs"], *manifest["outputs"])
    ]
    row = _row(version) | {
        "name": f"{version['model']}/{version['version']}",
        "signature": "; ".join(tensors),
        "bytes": sum(one["length"] for one in manifest["files"].values()),
        "budgets": f"p99 {manifest['budgets']['latency_p99_seconds'] * 1e3:.3g} ms, "
        f"{manifest['budgets']['memory_bytes'] / 2**20:.0f} MiB",
        "counter": manifest["release_counter"],
    }
    titles = {"name": "version", "state": "state", "reasons": "reasons", "waits": "waits for",
              "aliases": "aliases", "signature": "signature", "metrics": "metrics", "budgets": "budgets",
              "bytes": "bytes", "counter": "release counter", "manifest_sha256": "manifest",
              "registered": "registered", "registered_by": "by"}  # fmt: skip
    show_fields(row, titles, Output.TABLE)


def _next_step(version: dict[str, Any]) -> None:
    named = f"{version['model']}/{version['version']}"
    if version["waits_for"] == "add":
        console().print(
            f"\nnext: each approver runs [bold]muster model approve {named} --key …[/bold]"
        )
    elif version["state"] == "validated":
        console().print(
            f"\nnext: say who approves it: [bold]muster model create {version['model']} …[/bold]"
        )
    elif version["state"] == "published":
        console().print(f"\nnext: [bold]muster rollout start {named} --to SELECTOR[/bold]")


def _say(version: str, answer: dict[str, Any], done: str) -> None:
    signed, threshold = len(answer["signed_by"]), answer["threshold"]
    text = f"{version} is {done}" if answer["published"] else f"{threshold - signed} more must sign"
    console().print(f"signed: {signed} of {threshold}; {text}")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key and value):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE")
    return key, value


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{key}={text}: {text!r} is no number") from None
