"""`muster incident`: from the first finding to a fleet that has recovered."""

from typing import Annotated, Any, Final

import typer

from controller.cli.client import ApiClient, place
from controller.cli.device import moment
from controller.cli.output import (
    Output,
    OutputOption,
    say,
    show_json,
    show_rows,
)

app = typer.Typer(
    no_args_is_help=True,
    help="What was found, what is done about it, how it ended: list, show, close.",
)

Name = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: digits-i1.")]

_NEXT: Final = {
    "open": "muster federated start FILE, or muster incident close {id}",
    "retraining": "muster federated watch {run}",
    "deciding": "muster model show {model}/{candidate}",
    "rolling-out": "muster rollout watch {rollout}",
    "watching": "muster drift show {model}",
}
"""What a person may want to do next."""

_ANEW: Final = {"proposed": "start", "stopped": "resume", "failed": "resume"}
"""How its run begins, or goes on."""


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show all incidents, the newest first."""
    with ApiClient() as api:
        found = api.get("/incidents", model=model) if model else api.get("/incidents")
    if output is Output.JSON:
        show_json(found)
        return
    rows = [{**one, "opened": moment(one["opened_at"]), "ended": moment(one["ended_at"]) if one["ended_at"] else "",
             "of": f"{one['model']}/{one['version']}"} for one in found]  # fmt: skip
    columns = {"id": "incident", "of": "found in", "state": "state", "run": "run",
               "candidate": "candidate", "rollout": "rollout", "opened": "opened",
               "ended": "ended"}  # fmt: skip
    show_rows(rows, columns, output, "no incidents")


@app.command()
def show(incident: Name, output: OutputOption = Output.TABLE) -> None:
    """Tell an incident's story in order.

    ```
    muster incident show digits-i1
    ```
    """
    with ApiClient() as api:
        found = api.get(place("incidents", incident))
        one = found["incident"]
        run = api.get(place("federated", "runs", one["run"]))["run"] if one["run"] else None
    if output is Output.JSON:
        show_json(found)
        return
    say(f"{one['id']}: the data of {one['model']}/{one['version']} have changed; {one['state']}")
    for line in found["story"]:
        say(f"  {moment(line['at'])}  {line['subject']}: {line['sentence']}")
    hint = _hint(one, run)
    if hint:
        say(f"next: {hint}")


@app.command()
def close(
    incident: Name,
    reason: Annotated[str, typer.Option(help="Why; it stands in the story.")] = "",
) -> None:
    """End an incident that nobody will do anything about. What was begun for it goes on.

    ```
    muster incident close digits-i1 --reason "the lamps are mended"
    ```
    """
    with ApiClient() as api:
        api.post(place("incidents", incident, "close"), {"reason": reason})
    say(f"{incident} is closed")


def _hint(one: dict[str, Any], run: dict[str, Any] | None) -> str:
    """What somebody may do about it; ``run`` is its federated run, if there is one."""
    if one["state"] == "open" and run is not None and run["state"] in _ANEW:
        return f"muster federated {_ANEW[run['state']]} {one['run']}"
    return _NEXT.get(one["state"], "").format(**one)
