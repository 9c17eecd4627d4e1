"""`muster token`: invitations for machines."""

from typing import Annotated

import typer

from controller.cli.arguments import number, pairs
from controller.cli.client import ApiClient
from controller.cli.device import moment
from controller.cli.output import Output, OutputOption, say, show_json, show_rows

app = typer.Typer(no_args_is_help=True, help="One-time join tokens for new devices.")


@app.command()
def create(
    label: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE that the device will be labelled with.")
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=8760,
            callback=number,
            help="How long it serves; else the controller's default.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the token and nothing else.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a token with which one machine may become a device, once.

    It is shown this once. It pins the controller's certificate and root of trust, and names where
    machines join: at the controller and, if it has one, through its broker.

    ```
    muster token create --label site=berlin --hours 2
    ```
    """
    labels = pairs(label or ())
    seconds = None if hours is None else hours * 3600
    with ApiClient() as api:
        made = api.post("/tokens", {"labels": labels, "lifetime_seconds": seconds})
    if quiet:
        typer.echo(made["text"])
        return
    if output is Output.JSON:
        show_json({"token": made["text"], **made["token"]})
        return
    say("on the new device, once:\n")
    say(f"muster-agent enrol {made['text']}")
    say(f"\nit serves until {moment(made['token']['expires_at'])} UTC, {where(made['text'])}")


def where(text: str) -> str:
    """Where a machine with the token joins, for people."""
    from agent.identity.token import parse  # noqa: PLC0415 - quick --help

    ticket = parse(text)
    if not ticket.broker:
        return f"at {ticket.address}"
    return f"at {ticket.address}, or through the broker at {ticket.broker}"


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """Show join tokens, never their secrets."""
    with ApiClient() as api:
        found = api.get("/tokens")
    if output is Output.JSON:
        show_json(found)
        return
    rows = [{**one, "expires": moment(one["expires_at"])} for one in found]
    columns = {"id": "token", "state": "state", "expires": "until", "labels": "labels",
               "created_by": "by", "used_by": "made"}  # fmt: skip
    show_rows(rows, columns, output, "no tokens: make one with `muster token create`")
