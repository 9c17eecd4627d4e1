"""`muster audit` and `muster operator`: who did what, and who may."""

from typing import Annotated

import typer

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

app = typer.Typer(no_args_is_help=True, help="The audit record: list, verify.")
operators = typer.Typer(no_args_is_help=True, help="Who may use the controller.")


@app.command("list")
def list_(
    after: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Begin after this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show who did what, in order.

    ```
    muster audit list --after 100 --limit 50
    ```
    """
    with ApiClient() as api:
        found = api.get("/audit", after=after, limit=limit)
    if output is Output.JSON:
        show_json(found)
        return
    rows = [{**one, "when": moment(one["at_ms"] / 1000)} for one in found]
    columns = {"sequence": "#", "when": "when", "actor": "who", "action": "did", "subject": "to",
               "detail": "detail"}  # fmt: skip
    show_rows(rows, columns, output, "no records")


@app.command()
def verify(output: OutputOption = Output.TABLE) -> None:
    """Check that every record follows the one before it; status 1 if one does not.

    A record that was cut at its end still holds together: note the last digest somewhere else and
    compare.
    """
    with ApiClient() as api:
        found = api.get("/audit/verify")
    if output is Output.JSON:
        show_json(found)
    if not found["holds"]:
        raise CommandFailed(
            "audit-broken",
            f"record {found['broken_at']} does not follow the one before it",
            "Somebody has altered the database. Keep a copy of it before you do anything else.",
        )
    if output is Output.TABLE:
        hold = "holds" if found["records"] == 1 else "hold"
        say(f"{counted(found['records'], 'record')} {hold} together")
        say(f"last digest {found['last_digest']}")


@operators.command("create")
def create_operator(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom the token is for.")],
    role: Annotated[str, typer.Option(help="viewer, operator, approver or admin.")] = "viewer",
    output: OutputOption = Output.TABLE,
) -> None:
    """Make an operator; the token is shown this once.

    A viewer looks. An operator also registers versions, starts rollouts, labels devices and makes
    join tokens; an approver also brings signatures; an admin also decides who approves a model, who
    is an operator and which device is shut out.

    ```
    muster operator create ann --role approver
    ```
    """
    with ApiClient() as api:
        made = api.post("/operators", {"name": name, "role": role})
    if output is Output.JSON:
        show_json({**made["operator"], "token": made["token"]})
        return
    say(f"{name} is {role}. The token, for `muster login`, is shown this once:\n")
    say(made["token"])


@operators.command("list")
def list_operators(output: OutputOption = Output.TABLE) -> None:
    """Show all operators."""
    with ApiClient() as api:
        found = api.get("/operators")
    if output is Output.JSON:
        show_json(found)
        return
    rows = [{**one, "revoked": moment(one["revoked_at"])} for one in found]
    show_rows(rows, {"name": "name", "role": "role", "revoked": "revoked"}, output, "no operators")


@operators.command("revoke")
def revoke_operator(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token.")],
) -> None:
    """Make an operator's token serve no more.

    ```
    muster operator revoke ann
    ```
    """
    with ApiClient() as api:
        api.post(place("operators", name, "revoke"))
    say(f"the token of {name} serves no more")
