"""`muster device`: the fleet, and what it tells."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from controller.cli.arguments import pairs
from controller.cli.client import ApiClient, place
from controller.cli.explanation import explain
from controller.cli.output import Output, OutputOption, note, say, show_fields, show_json, show_rows
from controller.cli.selector_names import unknown_names
from protos.limits import MIB

app = typer.Typer(no_args_is_help=True, help="Devices: list, show, label, revoke, events.")

DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.")]
SelectorOption = Annotated[
    str, typer.Option("--to", help="Labels and facts: `site=berlin and memory_bytes>=512M`.")
]
COLUMNS = {"id": "device", "presence": "presence", "runs": "runs", "trying": "trying",
           "labels": "labels", "last_seen": "last seen"}  # fmt: skip


@app.command("list")
def list_(
    device: Annotated[
        str | None,
        typer.Argument(metavar="DEVICE", help="With --explain: say it of this device."),
    ] = None,
    selector: SelectorOption = "all",
    explained: Annotated[
        bool, typer.Option("--explain", help="Say why it matches so many, part by part.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show devices and what each has proven to run.

    ```
    muster device list --to 'site=berlin and not line=3'
    muster device list --to 'site=berlin and not line=3' --explain
    muster device list --to 'site=berlin and not line=3' --explain cam-1
    ```
    """
    if device is not None and not explained:
        raise typer.BadParameter(
            f"DEVICE goes with --explain; `muster device show {device}` shows one"
        )
    with ApiClient() as api:
        if explained:
            explain(api, selector, device, output)
        else:
            _list(api.get("/devices", selector=selector), selector, output)
        hint = unknown_names(api, selector)
    if hint:
        note(hint)


def _list(devices: list[dict[str, Any]], selector: str, output: Output) -> None:
    if output is Output.JSON:
        show_json(devices)
        return
    rows = [
        {**one, **_slots(one), "presence": _presence(one), "last_seen": moment(one["last_seen"])}
        for one in devices
    ]
    empty = "no devices: make a join token with `muster token create`"
    if selector != "all":
        empty = f"no device matches {selector}: `muster device list` shows all"
    show_rows(rows, COLUMNS, output, empty)


@app.command()
def show(device: DeviceArgument, output: OutputOption = Output.TABLE) -> None:
    """Show one device: facts, labels, what it was told and what it runs.

    ```
    muster device show cam-1
    ```
    """
    with ApiClient() as api:
        found = api.get(place("devices", device))
    if output is Output.JSON:
        show_json(found)
        return
    times = {
        name: moment(found[name]) for name in ("enrolled_at", "last_seen", "certificate_expires")
    }
    titles = {"id": "device", "presence": "presence", "status": "status", "labels": "labels",
              "enrolled_at": "enrolled", "last_seen": "last seen",
              "certificate_expires": "certificate until", "generation": "told generation",
              "facts": "facts", "resources": "agent uses", "dropped": "no room for"}  # fmt: skip
    told = {"presence": _presence(found), "resources": _resources(found["resources"])}
    show_fields({**found, **times, **told}, titles, output)
    say()
    columns = {"model": "model", "version": "version", "slot": "slot", "running": "answers",
               "state": "state", "approvals": "approvals", "generation": "generation",
               "code": "code", "detail": "detail"}  # fmt: skip
    show_rows(found["slots"], columns, output, "it runs no model")


@app.command()
def label(
    device: DeviceArgument,
    labels: Annotated[
        list[str], typer.Argument(metavar="LABEL", help="KEY=VALUE sets, KEY- removes.")
    ],
    output: OutputOption = Output.TABLE,
) -> None:
    """Set and remove labels; running rollouts follow at once.

    ```
    muster device label cam-1 site=berlin line=3 spare-
    ```
    """
    removed = [one[:-1] for one in labels if "=" not in one and one.endswith("-")]
    wanted = pairs(one for one in labels if "=" in one or not one.endswith("-"))
    with ApiClient() as api:
        found = api.put(place("devices", device, "labels"), {"set": wanted, "remove": removed})
    if output is Output.JSON:
        show_json(found)
        return
    shown = ", ".join(f"{key}={value}" for key, value in found["labels"].items())
    say(f"{device}: {shown or 'no labels'}")


@app.command()
def revoke(
    device: DeviceArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Shut a device out for good: its link is cut at once and its key refused.

    What it runs goes on running there: nobody can reach into a machine that is cut off.

    ```
    muster device revoke cam-1
    ```
    """
    if not yes:
        typer.confirm(f"revoke {device} for good?", abort=True)
    with ApiClient() as api:
        api.post(place("devices", device, "revoke"))
    say(f"{device} is revoked; it must be enrolled anew to come back")


@app.command()
def events(
    device: Annotated[
        str | None, typer.Argument(metavar="DEVICE", help="Only of this device.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what devices have told, newest first.

    ```
    muster device events
    muster device events cam-1 --limit 10
    ```
    """
    with ApiClient() as api:
        found = api.get("/events", device=device, limit=limit)
    if output is Output.JSON:
        show_json(found)
        return
    rows = [{**one, "when": moment(one["recorded_ms"] / 1000)} for one in found]
    columns = {"when": "when", "device": "device", "severity": "severity", "name": "event",
               "model": "model", "version": "version", "code": "code", "detail": "detail"}  # fmt: skip
    show_rows(rows, columns, output, "nothing was told yet")


def moment(seconds: float) -> str:
    """Unix seconds as people read them, in UTC."""
    if not seconds:
        return "never"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _waiting(records: int) -> str:
    return "1 record waits" if records == 1 else f"{records:,} records wait"


def _presence(device: dict[str, Any]) -> str:
    """A device that is shut out is not just away."""
    return "revoked" if device["status"] == "revoked" else str(device["presence"])


def _resources(told: dict[str, Any] | None) -> str:
    if told is None:
        return ""
    return (
        f"{told['cpu_share']:.2%} of a core, {told['resident_bytes'] / MIB:,.0f} MiB of memory; "
        f"{told['disk_free_bytes'] / MIB:,.0f} MiB of disk are free, "
        f"{_waiting(told['spool_records'])} ({moment(told['recorded_at'])})"
    )


def _slots(device: dict[str, Any]) -> dict[str, list[str]]:
    def named(one: dict[str, Any]) -> str:
        return f"{one['model']}/{one['version']}"

    return {
        "runs": [named(one) for one in device["slots"] if one["running"]],
        "trying": [
            f"{named(one)} {one['state']}" + (f" ({one['code']})" if one["code"] else "")
            for one in device["slots"]
            if not one["running"]
        ],
    }
