"""`muster model`: models and their versions, from a file to a recall."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controller.cli import approval
from controller.cli.approval import ModelArgument, VersionArgument
from controller.cli.arguments import model_name, named, pairs, require_plain, version_of
from controller.cli.client import ApiClient, place
from controller.cli.descent import beside_of, card_of, descent
from controller.cli.device import moment
from controller.cli.model_training import (
    LossOption,
    OptimizerOption,
    ProximalOption,
    TrainableOption,
    TrainOutputOption,
    training_options,
)
from controller.cli.output import (
    CommandFailed,
    Output,
    OutputOption,
    console,
    say,
    show_fields,
    show_json,
    show_rows,
)
from protos.limits import MIB

ReferenceOption = Annotated[
    Path,
    typer.Option(help=".npz with an array for each input, and `y` with the truth, if known."),
]
SemanticOption = Annotated[
    list[str] | None,
    typer.Option(
        help="What a tensor means: NAME=numeric, categorical, image, label, probability or score."
    ),
]
AtLeastOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A gate: METRIC=VALUE, or it is rejected. accuracy and macro_f1, of a classifier, "
        "must be at least that; mae and rmse, errors of a regression, at most that."
    ),
]

app = typer.Typer(no_args_is_help=True, help="Models: create, register, approve, recall, alias, …")

MOST_BYTES: Final = 512 * MIB  # as the controller: better told before the upload than after
COLUMNS = {"version": "version", "state": "state", "waits": "waits for", "aliases": "aliases",
           "metrics": "metrics", "registered": "registered", "registered_by": "by"}  # fmt: skip

for signed in (approval.create, approval.approve, approval.recall, approval.renew):
    app.command()(signed)


@app.command()
def register(  # noqa: PLR0913 - each is an option that people have
    name: ModelArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The model.")],
    *,
    reference: ReferenceOption,
    semantic: SemanticOption = None,
    at_least: AtLeastOption = None,
    card: Annotated[Path | None, typer.Option(help="Text for the card: .toml or .md.")] = None,
    git_commit: Annotated[str, typer.Option(help="Where its code stands.")] = "",
    trainable: TrainableOption = "",
    loss: LossOption = "",
    optimizer: OptimizerOption = "",
    proximal: ProximalOption = False,
    train_output: TrainOutputOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    r"""Register a version: check the file, build its monitor and golden vectors, run the gates.

    What comes out waits for its approvers, or was rejected with all reasons. The reference data are
    rows like those that the devices will see, and that the model was not trained on.

    ```
    muster model register digits digits.onnx --reference holdout.npz
    muster model register digits digits.onnx --reference holdout.npz \
        --at-least accuracy=0.95 --card card.md --semantic image=image
    muster model register digits digits.onnx --reference holdout.npz --trainable all
    ```
    """
    model_name(name)
    options: dict[str, Any] = {"semantics": _semantics(semantic or ())}
    options["metrics_at_least"] = _bounds(at_least or ())
    if git_commit:
        options["git_commit"] = git_commit
    if training := training_options(trainable, loss, optimizer, train_output, proximal=proximal):
        options["training"] = training
    paths = {"model": file, "reference": reference, **({"text": card} if card else {})}
    made = _upload(name, paths, options)
    if output is Output.JSON:
        show_json({**made["version"], "notes": made["notes"]})
    else:
        with ApiClient() as api:
            _show(made["version"], card_of(api, made["version"]))
        for note in made["notes"]:
            say(f"  note: {note}")
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
    """Show every model, its newest version, the newest that is published, and approvers."""
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
            "published": _newest_published(one),
            "approvers": _approvers(one),
            "aliases": one["aliases"],
        }
        for one in found
    ]
    columns = {"name": "model", "versions": "versions", "newest": "newest", "state": "state",
               "published": "published", "approvers": "approvers", "aliases": "aliases"}  # fmt: skip
    show_rows(rows, columns, output, "no models: `muster model register NAME FILE.onnx …`")


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="MODEL, MODEL/VERSION or MODEL@ALIAS.")
    ],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a model with all its versions, or one version with everything that is signed for.

    ```
    muster model show digits
    muster model show digits/2
    muster model show digits@champion --output json
    ```
    """
    model, number, alias = named(name)
    version = alias or number
    with ApiClient() as api:
        path = place("models", model, "versions", version) if version else place("models", model)
        found = api.get(path)
        card = card_of(api, found) if version else b""
    if output is Output.JSON:
        show_json({**found, "parent_metrics": beside_of(card)} if version else found)
    elif version:
        _show(found, card)
        _next_step(found)
    else:
        titles = {"name": "model", "approvers": "approvers"}
        show_fields({"name": model, "approvers": _approvers(found)}, titles, output)
        say()
        show_rows([_row(one) for one in found["versions"]], COLUMNS, output, "no versions")


@app.command()
def withdraw(
    version: VersionArgument, reason: Annotated[str, typer.Option(help="For the record.")] = ""
) -> None:
    """Reject a version that is not published yet.

    ```
    muster model withdraw digits/2 --reason 'trained on the wrong labels'
    ```
    """
    model, number = version_of(version)
    with ApiClient() as api:
        api.post(place("models", model, "versions", number, "withdraw"), {"reason": reason})
    say(f"{version} is rejected")


@app.command()
def alias(
    name: Annotated[str, typer.Argument(metavar="MODEL@ALIAS")],
    version: Annotated[
        int | None,
        typer.Argument(
            min=1, max=999_999_999, metavar="VERSION", help="Left out: remove the alias."
        ),
    ] = None,
) -> None:
    """Make MODEL@ALIAS name a version, or nothing.

    ```
    muster model alias digits@champion 2
    muster model alias digits@champion
    ```
    """
    model, _, called = named(name)
    if not called:
        raise typer.BadParameter(f"{name!r} is not MODEL@ALIAS, such as digits@champion")
    with ApiClient() as api:
        path = place("models", model, "aliases", called)
        if version is None:
            api.delete(path)
        else:
            api.put(path, {"version": version})
    say(f"{name} is now {f'{model}/{version}' if version else 'nothing'}")


@app.command()
def card(version: VersionArgument) -> None:
    """Print a version's card, as CycloneDX JSON.

    ```
    muster model card digits/2 > digits-2.cdx.json
    ```
    """
    model, number = version_of(version)
    with ApiClient() as api:
        typer.echo(api.download(place("models", model, "versions", number, "card")).decode())


def _upload(name: str, paths: dict[str, Path], options: dict[str, Any]) -> Any:
    opened: dict[str, tuple[str, Any]] = {}
    try:
        for part, path in paths.items():
            require_plain(path)
            opened[part] = (path.name, path.open("rb"))
            if path.stat().st_size > MOST_BYTES:
                raise CommandFailed(
                    "too-large",
                    f"{path}: {path.stat().st_size:,} bytes; {MOST_BYTES:,} at most",
                    "Make it smaller; a sample of the reference data will do.",
                )
        with (
            ApiClient() as api,
            console(error=True).status(f"registering {name}: check, run, profile, calibrate …"),
        ):
            fields = {"options": json.dumps(options)}
            return api.upload(place("models", name, "versions"), opened, fields)
    except OSError as error:
        raise CommandFailed(
            "bad-input", f"{error.filename}: {error.strerror}", "Check the path."
        ) from error
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


def _show(version: dict[str, Any], card: bytes) -> None:
    manifest = version["manifest"]
    tensors = [
        f"{one['name']} {one['dtype']}{one['shape']} {one['semantic']}"
        for one in (*manifest["inputs"], *manifest["outputs"])
    ]
    row = _row(version) | {
        "name": f"{version['model']}/{version['version']}",
        "signature": "; ".join(tensors),
        "budgets": f"p99 {manifest['budgets']['latency_p99_seconds'] * 1e3:.3g} ms, "
        f"{manifest['budgets']['memory_bytes'] / 2**20:.0f} MiB",
        "counter": manifest["release_counter"],
        **descent(manifest, card),
    }
    titles = {"name": "version", "state": "state", "reasons": "reasons", "waits": "waits for",
              "aliases": "aliases", "origin": "comes from", "signature": "signature", "metrics": "metrics",
              "beside": "beside parent", "trainable": "trainable", "budgets": "budgets", "bytes": "bytes",
              "step": "as a step", "counter": "counter", "manifest_sha256": "manifest",
              "registered": "registered", "registered_by": "by"}  # fmt: skip
    optional = {"origin", "beside", "trainable", "step"}
    shown = {key: one for key, one in titles.items() if key not in optional or row.get(key)}
    show_fields(row, shown, Output.TABLE)


def _next_step(version: dict[str, Any]) -> None:
    named = f"{version['model']}/{version['version']}"
    if version["waits_for"] == "add":
        say(f"\nnext: each approver runs `muster model approve {named} --key NAME.pem`")
    elif version["state"] == "validated":
        say(f"\nnext: say who approves it: `muster model create {version['model']} --help`")
    elif version["state"] == "published":
        say(f"\nnext: `muster rollout start {named} --to SELECTOR`")


def _newest_published(model: dict[str, Any]) -> str:
    """What can be rolled out, though a newer version may be rejected or wait."""
    published = [one["version"] for one in model["versions"] if one["state"] == "published"]
    return str(published[-1]) if published else ""


def _approvers(model: dict[str, Any]) -> str:
    names = ", ".join(model["approvers"].values())
    return f"{model['threshold']} of {names}" if names else "nobody yet"


def _semantics(texts: Sequence[str]) -> dict[str, str]:
    from protos.manifest import Semantic  # noqa: PLC0415 - quick --help

    found = pairs(texts)
    for name, meaning in found.items():
        if meaning not in set(Semantic):
            raise typer.BadParameter(f"{name}={meaning}: must be one of {', '.join(Semantic)}")
    return found


def _bounds(texts: Sequence[str]) -> dict[str, float]:
    from controller.registry.metrics import METRICS  # noqa: PLC0415 - quick --help

    found = pairs(texts)
    for name in found:
        if name not in METRICS:
            raise typer.BadParameter(f"{name!r} is no metric; there are: {', '.join(METRICS)}")
    return {name: _number(name, text) for name, text in found.items()}


def _number(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"{key}={text}: {text!r} is no number")
    return number
