"""`muster fleet`: what shall run where, as a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.arguments import require_plain
from controller.cli.client import ApiClient, place
from controller.cli.device import moment
from controller.cli.output import (
    CommandFailed,
    Output,
    OutputOption,
    counted,
    say,
    show_json,
    show_rows,
)

if TYPE_CHECKING:
    from controller.fleet_config.fleet import Fleet

app = typer.Typer(no_args_is_help=True, help="Fleets as files: check, plan, apply, list, show.")

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A fleet's file, such as meters.toml.")
]


AgainOption = Annotated[
    bool, typer.Option("--again", help="Start anew what was aborted or rolled back.")
]


@app.command()
def check(file: FileArgument, output: OutputOption = Output.TABLE) -> None:
    """Look a fleet's file over; no controller is asked.

    Everything that is wrong is told at once, each with its line and what to write.

    ```
    muster fleet check fleet_configs/meters.toml
    ```
    """
    from controller.fleet_config.reading import read_fleet  # noqa: PLC0415 - quick --help

    found = read_fleet(text_of(file), file.name)
    if output is Output.JSON:
        show_json(_described(found))
        return
    models = ", ".join(f"{one.version} ({one.slot})" for one in found.goals)
    say(f"{file.name}: fleet {found.name} is in order: {counted(len(found.goals), 'model')}")
    say(f"  {models}")


@app.command()
def plan(
    file: FileArgument,
    again: AgainOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what applying a fleet's file would change; changes nothing.

    Which rollouts would start, how many devices each stage touches, what each site has to download,
    which devices can't run a version and why, and how long it takes if nothing goes wrong.

    ```
    muster fleet plan meters.toml
    muster fleet plan meters.toml -o json > plan.json
    ```
    """
    body = {"text": text_of(file), "file": file.name, "again": again}
    with ApiClient() as api:
        found = api.post("/fleets/plan", body)
    _tell(found, output)


@app.command("apply")
def apply_(
    file: FileArgument,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="End rollouts that the file no longer asks for; devices keep what they run.",
        ),
    ] = False,
    again: AgainOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make the fleet as its file says; a second time there is nothing to do.

    ```
    muster fleet apply meters.toml
    muster fleet apply meters.toml --prune
    ```
    """
    body = {"text": text_of(file), "file": file.name, "again": again, "prune": prune}
    with ApiClient() as api:
        done = api.post("/fleets/apply", body)
    _tell(done, output)


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """Show every fleet whose file was applied."""
    with ApiClient() as api:
        found = api.get("/fleets")
    if output is Output.JSON:
        show_json(found)
        return
    rows = [{**one, "when": moment(one["applied_at"])} for one in found]
    columns = {"name": "fleet", "when": "applied", "applied_by": "by", "sha256": "sha256"}
    show_rows(rows, columns, output, "no fleets: apply a file with `muster fleet apply`")


@app.command()
def show(
    fleet: Annotated[str, typer.Argument(metavar="NAME", help="The fleet's name: meters.")],
    text: Annotated[bool, typer.Option("--text", help="Print the file that was applied.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a fleet: the file that was applied last, and whether all is as it says.

    ```
    muster fleet show meters
    muster fleet show meters --text > meters.toml
    ```
    """
    with ApiClient() as api:
        found = api.get(place("fleets", fleet))
    if output is Output.JSON:
        show_json(found)
    elif text:
        say(found["text"].rstrip("\n"))
    else:
        say(f"applied {moment(found['applied_at'])} by {found['applied_by']}: {found['sha256']}")
        _tell(found, output)


@app.command()
def schema(
    write: Annotated[
        bool, typer.Option("--write", help="Write it to fleet.schema.json in this folder.")
    ] = False,
) -> None:
    """Print the JSON Schema of fleets' files, for editors.

    A file whose first line is `#:schema fleet.schema.json` is completed and checked as one types, in
    editors that know Taplo ("Even Better TOML").

    ```
    cd fleet_configs && muster fleet schema --write
    ```
    """
    from controller.fleet_config.reference import (  # noqa: PLC0415 - as above
        SCHEMA_NAME,
        fleet_schema,
    )

    if not write:
        say(fleet_schema().rstrip("\n"))
        return
    try:
        Path(SCHEMA_NAME).write_text(fleet_schema(), encoding="utf-8")
    except OSError as error:
        raise CommandFailed(
            "output", f"{SCHEMA_NAME}: {error.strerror}", "Go to a folder that you may write to."
        ) from error
    say(f"{SCHEMA_NAME} is written")


def text_of(file: Path) -> str:
    """What the file says.

    Raises:
        CommandFailed: it can't be read.
        BadFleetFile: it is too large, or no text.
    """
    from controller.fleet_config.document import MAX_BYTES  # noqa: PLC0415 - quick --help
    from controller.fleet_config.reading import decode  # noqa: PLC0415

    try:
        require_plain(file)
        with file.open("rb") as opened:
            return decode(opened.read(MAX_BYTES + 1), file.name)
    except OSError as error:
        raise CommandFailed(
            "bad-input", f"{file}: {error.strerror}", "Name the fleet's file."
        ) from error


def _tell(answer: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        show_json(answer)
        return
    for line in answer["lines"]:
        say(line)


def _described(found: "Fleet") -> object:
    return {
        "fleet": found.name,
        "description": found.description,
        "selector": found.selector,
        "models": [
            {
                "model": one.model,
                "version": one.version,
                "slot": one.slot,
                "selector": one.selector,
                "policy": one.policy.model_dump(mode="json"),
            }
            for one in found.goals
        ],
    }
