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
    no_args_is_help=True, help="What was found, what is done about it, how it ended: list, show."
)

Name = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: digits-i1.")]

_NEXT: Final = {
    "open": "nothing is done about it yet",
    "retraining": "muster federated watch {run}",
    "deciding": "muster model show {model}/{candidate}",
    "rolling-out": "muster rollout watch {rollout}",
    "watching": "muster drift show {model}",
}
"""What a person may want to do next."""


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
    rows = [{**one, "opened": moment(one["opened_at"]), "ended": moment(one["ended_at"]),
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
    if output is Output.JSON:
        show_json(found)
        return
    one = found["incident"]
    say(f"{one['id']}: the data of {one['model']}/{one['version']} have changed; {one['state']}")
    for line in found["story"]:
        say(f"  {moment(line['at'])}  {line['subject']}: {line['sentence']}")
    hint = _hint(one)
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


def _hint(one: dict[str, Any]) -> str:
    if one["state"] == "open" and one["run"]:
        return f"muster federated start {one['run']}"
    return _NEXT.get(one["state"], "").format(**one)
