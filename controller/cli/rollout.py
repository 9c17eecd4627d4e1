"""`muster rollout`: bringing versions to devices."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from controller.cli.arguments import named, number
from controller.cli.client import ApiClient, place
from controller.cli.device import moment
from controller.cli.display import display
from controller.cli.output import (
    CommandFailed,
    Output,
    OutputOption,
    counted,
    note,
    printable,
    say,
    show_json,
    show_rows,
)
from controller.cli.rollout_policy import asked_policy
from controller.cli.selector_names import unknown_names

app = typer.Typer(
    no_args_is_help=True, help="Rollouts: start, watch, explain, pause, resume, retry, abort."
)

RolloutArgument = Annotated[str, typer.Argument(metavar="ROLLOUT", help="Its id: digits-2-1.")]
ENDED = {"succeeded", "superseded", "aborted", "rolled-back"}


@app.command()
def start(
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="MODEL/VERSION or MODEL@ALIAS; published.")
    ],
    selector: Annotated[
        str, typer.Option("--to", help="Labels and facts: `site=berlin and hw!=pi3`, or `all`.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say whom it would reach.")
    ] = False,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="No stages, no soak, no control group.")
    ] = False,
    stages: Annotated[
        str, typer.Option(metavar="PERCENTS", help="Own stages: `5,25,100` per cent.")
    ] = "",
    soak: Annotated[
        str, typer.Option(metavar="TIME", help="How long a device must run it: `90s`, `30m`, `2h`.")
    ] = "",
    watch_it: Annotated[bool, typer.Option("--watch", help="Watch it until it ends.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring a version to the devices that match, stage by stage, now and for as long as it runs.

    A device counts once a report, signed by itself, says that its runtime has loaded the version and
    that its probation is over. By default 10 % go first, then 50 %, then all, each for half an hour and
    against a control group; a stage that fails pauses the rollout. `muster fleet` says more.

    ```
    muster rollout start digits/2 --to 'site=berlin and hw!=pi3' --dry-run
    muster rollout start digits/2 --to all --stages 5,25,100 --soak 2h
    muster rollout start digits@champion --to all --at-once --watch
    ```
    """
    policy = asked_policy(at_once, stages, soak)
    if not named(version).version and not named(version).alias:
        raise typer.BadParameter(
            f"{version!r} is not MODEL/VERSION or MODEL@ALIAS, such as digits/3"
        )
    if watch_it and output is Output.JSON:
        raise typer.BadParameter(
            "--watch is for people: with --output json, use `rollout watch` after"
        )
    with ApiClient() as api:
        if dry_run:
            _preview(api.get("/rollouts/preview", version=version, selector=selector), output)
            made = None
        else:
            made = _start(api, version, selector, policy)
        hint = unknown_names(api, selector)
    if hint:
        note(hint)
    if made is None:
        return
    if output is Output.JSON:
        show_json(made)
    else:
        say(f"{made['id']} has begun: `muster rollout watch {made['id']}`")
    if watch_it:
        watch(made["id"])


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """Show every rollout, newest first."""
    with ApiClient() as api:
        found = api.get("/rollouts")
    if output is Output.JSON:
        show_json(found)
        return
    rows = [
        {**one, "what": f"{one['model']}/{one['version']}", "when": moment(one["created_at"])}
        for one in found
    ]
    columns = {"id": "rollout", "what": "version", "selector": "to", "state": "state", "ok": "ok",
               "failed": "failed", "waiting": "waiting", "unreachable": "unreachable", "away": "away",
               "created_by": "by", "when": "started"}  # fmt: skip
    show_rows(rows, columns, output, "no rollouts: start one with `muster rollout start`")


@app.command()
def show(rollout: RolloutArgument, output: OutputOption = Output.TABLE) -> None:
    """Show one rollout: who runs the version, who does not, and why.

    ```
    muster rollout show digits-2-1
    ```
    """
    with ApiClient() as api:
        found = api.get(place("rollouts", rollout))
    if output is Output.JSON:
        show_json(found)
        return
    say(_story(found))
    columns = {"device": "device", "outcome": "outcome", "doing": "state", "code": "code",
               "detail": "detail"}  # fmt: skip
    show_rows(found["standings"], columns, output, "no devices")


@app.command()
def watch(
    rollout: RolloutArgument,
    seconds: Annotated[
        float, typer.Option(min=1, callback=number, help="Give up after so long.")
    ] = 3600,
) -> None:
    """Watch a rollout until it ends or is paused; status 0 only if it succeeded.

    Ctrl-C ends the watching, not the rollout.

    ```
    muster rollout watch digits-2-1
    muster rollout watch digits-2-1 --seconds 600 && echo done
    ```
    """
    deadline = time.monotonic() + seconds
    with ApiClient() as api, display() as shown:
        while True:
            found = api.get(place("rollouts", rollout))
            shown(_story(found))
            if found["state"] in ENDED or found["state"] == "paused":
                break
            if time.monotonic() > deadline:
                raise CommandFailed("timeout", f"{rollout} still {found['state']}", "Watch again.")
            time.sleep(0.5)
    if found["state"] == "paused":
        raise CommandFailed(
            "rollout-paused",
            f"{rollout} is paused: {found['reason']}",
            f"`muster rollout resume|retry|abort {rollout}` when you know why.",
        )
    if found["state"] != "succeeded":
        raise CommandFailed(
            f"rollout-{found['state']}",
            f"{rollout} {found['state'].replace('-', ' ')}: {found['reason']}",
            f"See `muster rollout show {rollout}`.",
        )


@app.command()
def explain(rollout: RolloutArgument) -> None:
    """Say why a rollout does what it does: each stage, what it waits for, what its gates compared.

    ```
    muster rollout explain digits-2-1
    ```
    """
    with ApiClient() as api:
        found = api.get(place("rollouts", rollout))
    say(_story(found))
    if found["stages"]:
        say("")
    for stage in found["stages"]:
        done = f"{stage['ok']} ok, {stage['failed']} failed, {stage['unreachable']} unreachable"
        size = f"{stage['released']} released ({done})" if stage["opened_at"] else "not begun"
        say(printable(f"{stage['name']}: {stage['state']}, {size}"))
        for line in stage["reason"].splitlines():
            say(printable(f"  {line}"))


def _start(api: ApiClient, version: str, selector: str, policy: Mapping[str, Any] | None) -> Any:
    wish: dict[str, Any] = {"version": version, "selector": selector}
    if policy is not None:
        wish["policy"] = policy
    try:
        return api.post("/rollouts", wish)
    except CommandFailed as error:
        hint = unknown_names(api, selector) if error.code == "conflict" else ""
        if not hint:
            raise
        remedy = "`muster device list` shows every device with its labels."
        raise CommandFailed(error.code, f"{error.detail}; {hint}", remedy) from error


def _story(found: dict[str, Any]) -> str:
    return printable("\n".join(found["because"]))


def _preview(found: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        show_json(found)
        return
    devices = found["devices"]
    say(f"it would reach {counted(len(devices), 'device')}: {', '.join(devices) or 'none matches'}")
    for device, reasons in found["incompatible"].items():
        say(f"  {device} can't run it: {'; '.join(reasons)}")
