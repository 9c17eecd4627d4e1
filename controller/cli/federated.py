"""`muster federated`: runs that train a model where the data are."""

import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controller.cli.arguments import require_plain
from controller.cli.client import ApiClient, place
from controller.cli.device import moment
from controller.cli.display import growing_display
from controller.cli.output import (
    CommandFailed,
    Output,
    OutputOption,
    printable,
    say,
    show_json,
    show_rows,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Train where the data are: check, start, list, show, watch, stop, resume, dismiss, export.",
)

RUNS: Final = "/federated/runs"
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="As `list` shows it: digits-r1.")]
UNDER_WAY: Final = "  under way"
"""How a line of a run begins that is out of date soon."""
AGAIN_SECONDS: Final = 2.0
ENDED: Final = {"stopped", "failed", "finished", "dismissed"}


@app.command()
def start(
    what: Annotated[
        str,
        typer.Argument(metavar="FILE|RUN", help="A run file, or the id of a run that is proposed."),
    ],
    own: Annotated[
        str,
        typer.Option(
            "--app", metavar="MODULE:APP", help="A Flower ServerApp that the controller can import."
        ),
    ] = "",
    watch_it: Annotated[bool, typer.Option("--watch", help="Watch it until it ends.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start a run from its file, or one that the controller has proposed.

    Devices train with the train step of the version that they run; nothing but parameters and counts
    leaves them. What comes of it is a version that approvers sign as any other.

    ```
    muster federated start run.toml --watch
    muster federated start digits-r2
    muster federated start run.toml --app my_package.server:app
    ```
    """
    if watch_it and output is Output.JSON:
        raise typer.BadParameter(
            "--watch is for people: with --output json, `federated watch` after"
        )
    path = Path(what)
    with ApiClient() as api:
        if path.suffix == ".toml" or path.is_file():
            body = {"text": text_of(path), "file": path.name, "app": own}
            made = api.post(RUNS, body)
        elif own:
            raise typer.BadParameter("--app goes with a run file")
        else:
            made = api.post(place("federated", "runs", what, "start"))
    run = made["run"]["id"]
    if output is Output.JSON:
        show_json(made)
    else:
        say(f"{run} has begun: `muster federated watch {run}`")
    if watch_it:
        watch(run)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A run file.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Look a run file over; no controller is asked.

    Everything that is wrong is told at once, each with its line and what to write.

    ```
    muster federated check run.toml
    ```
    """
    from controller.federated.run_file import read_plan  # noqa: PLC0415 - quick --help

    plan = read_plan(text_of(file), file.name)
    if output is Output.JSON:
        show_json(plan.model_dump(mode="json"))
        return
    run, strategy = plan.run, plan.strategy
    say(f"{file.name}: in order: {run.rounds} rounds of {strategy.name} over {run.model}")


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show every run, newest first."""
    with ApiClient() as api:
        found = api.get(RUNS, model=model)
    if output is Output.JSON:
        show_json(found)
        return
    rows = [{**one, "of": f"{one['model']}/{one['version']}", "when": moment(one["created_at"]),
             "done": f"{one['round']}/{one['rounds']}"} for one in found]  # fmt: skip
    columns = {"id": "run", "of": "version", "method": "by", "state": "state", "done": "rounds",
               "candidate": "candidate", "incident": "incident", "created_by": "by whom",
               "when": "made"}  # fmt: skip
    show_rows(rows, columns, output, "no runs: start one with `muster federated start FILE`")


@app.command()
def show(run: RunArgument, output: OutputOption = Output.TABLE) -> None:
    """Show one run: who took part in each round, who did not and why, how good it is, how many bytes.

    ```
    muster federated show digits-r1
    ```
    """
    with ApiClient() as api:
        found = api.get(place("federated", "runs", run))
    if output is Output.JSON:
        show_json(found)
    else:
        say(_story(found))


@app.command()
def watch(
    run: RunArgument,
    seconds: Annotated[float, typer.Option(min=1, help="Give up after so long.")] = 86_400,
) -> None:
    """Watch a run until it ends; status 0 only if it finished, and what was wanted came of it.

    Ctrl-C ends the watching, not the run.

    ```
    muster federated watch digits-r1 && muster model list
    ```
    """
    deadline = time.monotonic() + seconds
    with ApiClient() as api, growing_display(UNDER_WAY) as shown:
        api.get(
            place("federated", "runs", run)
        )  # an address that is wrong is no controller to wait for
        while True:
            found = _asked(api, run, deadline)
            shown(_story(found))
            state = found["run"]["state"]
            if state in ENDED and not found["registering"]:
                break
            if time.monotonic() > deadline:
                raise CommandFailed("timeout", f"{run} is still {state}", "Watch again.")
            time.sleep(0.5)
    if state != "finished" or found["run"]["error"]:
        why = found["run"]["error"]
        raise CommandFailed(
            f"run-{state}",
            f"{run} has {state}: {why}" if why else f"{run} is {state}",
            f"`muster federated show {run}` tells each round; `resume {run}` goes on with one that "
            "stopped or failed.",
        )


@app.command()
def stop(run: RunArgument, output: OutputOption = Output.TABLE) -> None:
    """Give up the round under way, and end the run; `resume` goes on with it."""
    _change(run, "stop", "is about to stop", output)


@app.command()
def resume(run: RunArgument, output: OutputOption = Output.TABLE) -> None:
    """Go on with a run that was stopped or has failed, from its last round."""
    _change(run, "resume", "goes on", output)


@app.command()
def dismiss(run: RunArgument, output: OutputOption = Output.TABLE) -> None:
    """Say that nobody wants a run that was proposed."""
    _change(run, "dismiss", "is dismissed", output)


def _change(run: str, verb: str, said: str, output: Output) -> None:
    with ApiClient() as api:
        found = api.post(place("federated", "runs", run, verb))
    if output is Output.JSON:
        show_json(found)
    else:
        say(f"{run} {said}")


def _asked(api: ApiClient, run: str, deadline: float) -> dict[str, Any]:
    """The run as it stands; a controller that is away is asked again: the run goes on when it is back."""
    while True:
        try:
            found: dict[str, Any] = api.get(place("federated", "runs", run))
            return found
        except CommandFailed as error:
            if error.code != "unreachable" or time.monotonic() > deadline:
                raise
        time.sleep(AGAIN_SECONDS)


def _story(found: dict[str, Any]) -> str:
    return printable("\n".join(found["because"]))


def text_of(path: Path) -> str:
    """The text of a run file.

    Raises:
        CommandFailed, BadRunFile: it can't be read.
    """
    from controller.federated.plan import MAX_BYTES  # noqa: PLC0415 - quick --help
    from controller.federated.run_file import decode  # noqa: PLC0415

    try:
        require_plain(path)
        with path.open("rb") as file:
            return decode(file.read(MAX_BYTES + 1), path.name)
    except OSError as error:
        raise CommandFailed("bad-input", f"{path}: {error.strerror}", "Name a run file.") from error
