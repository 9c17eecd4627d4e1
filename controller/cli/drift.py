"""`muster drift`: whether the world still looks as it did in training."""

import time
from typing import Annotated, Any

import typer

from controller.cli.arguments import named
from controller.cli.client import ApiClient, place
from controller.cli.device import moment
from controller.cli.output import Output, OutputOption, say, show_json, show_rows

app = typer.Typer(no_args_is_help=True, help="Drift: over the fleet, and device by device.")

MOVED = 3


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="NAME", help="MODEL or MODEL/VERSION.")],
    since_hours: Annotated[
        float | None,
        typer.Option(min=0, max=1e6, help="Only windows that ended in the last so many hours."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show which devices are unlike the rest, whether the world has changed, and what moved.

    Devices send counts per window, never data. Too little data is `insufficient_data`, never `ok`.

    ```
    muster drift show digits --since-hours 24
    ```
    """
    asked = named(model)
    if asked.alias:
        raise typer.BadParameter(f"{model!r} is not MODEL or MODEL/VERSION")
    since_ms = None if since_hours is None else _ago(since_hours)
    with ApiClient() as api:
        found = api.get(
            place("drift", asked.model), version=asked.version or None, since_ms=since_ms
        )
    if output is Output.JSON:
        show_json(found)
        return
    for sentence in found["sentences"]:
        say(sentence)
    say()
    columns = {"device": "device", "verdict": "verdict", "broken": "stands out", "rows": "rows",
               "windows": "windows", "last": "last window", "moved": "what moved most"}  # fmt: skip
    rows = [_row(one) for one in found["devices"]]
    show_rows(rows, columns, output, "no windows yet: a window closes after enough predictions")


def _row(device: dict[str, Any]) -> dict[str, Any]:
    moved = [one["detail"] for one in device["findings"][:MOVED]]
    more = len(device["findings"]) - len(moved)
    return {
        **device,
        "last": moment(device["last_ended_ms"] / 1000),
        "moved": "; ".join(moved) + (f" (and {more} more)" if more > 0 else ""),
    }


def _ago(hours: float) -> int:
    return int(1000 * (time.time() - 3600 * hours))
