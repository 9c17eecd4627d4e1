"""`muster drift`: whether the world still looks as it did in training."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer

from controller.cli.arguments import Named, named, number
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

app = typer.Typer(no_args_is_help=True, help="Drift: over the fleet, and device by device.")

MOVED: Final = 3
SHOWN: Final = 12
PICTURE: Final = 16
COLUMNS: Final = "·▁▂▃▄▅▆▇█"


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="NAME", help="MODEL or MODEL/VERSION.")],
    since_hours: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1e6,
            callback=number,
            help="Only windows that ended in the last so many hours.",
        ),
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
    with ApiClient() as api, _of_what_there_is(api, asked):
        found = api.get(
            place("drift", asked.model), version=asked.version or None, since_ms=since_ms
        )
    if output is Output.JSON:
        show_json(found)
        return
    for sentence in found["sentences"]:
        say(sentence)
    for version, devices in found["elsewhere"].items():
        named_version = f"{found['model']}/{version}"
        say(f"{devices} devices run {named_version}: `muster drift show {named_version}`")
    say()
    columns = {"device": "device", "verdict": "verdict", "broken": "stands out", "rows": "rows",
               "windows": "windows", "last": "last window", "moved": "what moved most"}  # fmt: skip
    rows = [_row(one) for one in found["devices"]]
    show_rows(rows, columns, output, "no windows yet: a window closes after enough predictions")


@app.command()
def profile(
    model: Annotated[str, typer.Argument(metavar="NAME", help="MODEL or MODEL/VERSION.")],
    device: Annotated[str | None, typer.Option(help="Only this device's data.")] = None,
    series: Annotated[
        str | None, typer.Option(help="Only this series, with the share of every cell.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help=f"All series, not just {SHOWN}.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how a version's data look now, beside those that it was registered with.

    What is merged are the windows that `muster drift show` judges. A picture has a cell for each bin
    or category, higher where more values are.

    ```
    muster drift profile digits
    muster drift profile digits/2 --device cam-1
    muster drift profile digits --series image.mean
    ```
    """
    asked = named(model)
    if asked.alias:
        raise typer.BadParameter(f"{model!r} is not MODEL or MODEL/VERSION")
    with ApiClient() as api, _of_what_there_is(api, asked):
        path = place("drift", asked.model) + "/profile"
        found = api.get(path, version=asked.version or None, device=device)
    if series is not None:
        found["series"] = [_of_name(found, series)]
    if output is Output.JSON:
        show_json(found)
        return
    _show_traffic(found)
    if series is None:
        _show_series(found["series"], len(found["series"]) if every else SHOWN)
    else:
        _show_cells(found["series"][0])


@contextmanager
def _of_what_there_is(api: ApiClient, asked: Named) -> Iterator[None]:
    """That nothing was told is said of what is registered; else, that it is not.

    Raises:
        CommandFailed: there is no such model or version; or what the block raises.
    """
    try:
        yield
    except CommandFailed as error:
        if error.code == "not-found":
            version = ("versions", asked.version) if asked.version else ()
            api.get(place("models", asked.model, *version))
        raise


def _of_name(found: dict[str, Any], name: str) -> dict[str, Any]:
    for one in found["series"]:
        if name in {one["name"], one["title"]}:
            return dict(one)
    names = ", ".join(one["name"] for one in found["series"][:SHOWN])
    raise CommandFailed("not-found", f"no series {name!r} is watched", f"There are: {names}.")


def _show_traffic(found: dict[str, Any]) -> None:
    traffic, devices = found["traffic"], found["devices"]
    who = devices[0] if len(devices) == 1 else f"{len(devices)} devices"
    began, ended = (moment(found[key] / 1000) for key in ("first_started_ms", "last_ended_ms"))
    say(f"{found['model']}/{found['version']} on {who}, {began} to {ended} UTC")
    took = ""
    if traffic["p99_seconds"] is not None:
        halfway, most = (traffic[key] * 1000 for key in ("p50_seconds", "p99_seconds"))
        took = f"; half of the answers within {halfway:.3g} ms, 99% within {most:.3g} ms"
    say(
        f"{counted(found['rows'], 'prediction')} in {counted(traffic['requests'], 'request')}, "
        f"{traffic['failed']:,} failed, {traffic['refused']:,} refused{took}\n"
    )


def _show_series(series: list[dict[str, Any]], most: int) -> None:
    rows = []
    for one in series[:most]:
        now, before = one["now"], one["reference"]
        rows.append(
            {
                "series": one["title"],
                "mean": now["mean"],
                "before": before["mean"],
                "spread": now["spread"],
                "least": now["least"],
                "greatest": now["greatest"],
                "missing": f"{now['missing']:.1%}",
                "outside": f"{now['outside']:.1%}",
                "picture": picture(now["shares"]),
                "usual": picture(before["shares"]),
            }
        )
    columns = {"series": "series", "mean": "mean", "before": "usual mean", "spread": "spread",
               "least": "least", "greatest": "greatest", "missing": "missing",
               "outside": "outside", "picture": "now", "usual": "usually"}  # fmt: skip
    show_rows(rows, columns, Output.TABLE, "no series is watched")
    if len(series) > most:
        say(f"\n{len(series) - most} more series: `--all` shows them")


def _show_cells(one: dict[str, Any]) -> None:
    now, before = one["now"], one["reference"]
    rows = [
        {"cell": cell, "now": f"{share:.1%}", "usually": f"{usual:.1%}"}
        for cell, share, usual in zip(one["cells"], now["shares"], before["shares"], strict=True)
    ]
    rows += [
        {"cell": name, "now": f"{now[name]:.1%}", "usually": f"{before[name]:.1%}"}
        for name in ("outside", "missing", "infinite")
    ]
    first = "category" if one["kind"] == "categorical" else "from"
    columns = {"cell": first, "now": "now", "usually": "usually"}
    say(one["title"])
    show_rows(rows, columns, Output.TABLE, "")


def picture(shares: Sequence[float], width: int = PICTURE) -> str:
    """The shares as columns of text, the highest full; neighbours are added up to fit ``width``."""
    each = max(1, math.ceil(len(shares) / width))
    pooled = [sum(shares[at : at + each]) for at in range(0, len(shares), each)]
    highest = max(pooled, default=0.0) or 1.0
    return "".join(COLUMNS[math.ceil(one / highest * (len(COLUMNS) - 1))] for one in pooled)


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
