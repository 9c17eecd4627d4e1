"""The command `muster`: every verb, and how its failures are shown."""

import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from agent.streams import abandon_output, open_streams
from controller.cli import (
    audit,
    device,
    drift,
    federated,
    fleet,
    flower_export,
    incident,
    key,
    mirror,
    model,
    mqtt,
    predict,
    rollout,
    setup,
    steering,
    token,
    trust,
)
from controller.cli.output import CommandFailed, fail, say
from controller.errors import ControllerError
from protos.errors import DocumentError

app = typer.Typer(
    name="muster",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help=(
        "ModelOps at the edge: sign, roll out, run, watch and roll back models on a fleet of devices."
        "\n\nStatus 0: done. 1: refused or failed. 2: wrong usage. Errors say what to do."
    ),
)


@app.callback()
def start(
    *,
    _: Annotated[
        bool,
        typer.Option("--version", is_eager=True, help="Say which version of Muster this is.",
                     callback=lambda given: _tell_version() if given else None),
    ] = False,
) -> None:  # fmt: skip
    """What stands before every command; its help is the application's own."""


def _tell_version() -> None:
    try:
        say(f"muster {version('muster')}")
    except PackageNotFoundError:
        say("muster, from a folder in which it is not installed")
    raise typer.Exit


START, MODELS, FLEET, TRUST = "A controller", "Models", "The fleet", "Trust"

app.command("init", rich_help_panel=START)(setup.init)
app.command("serve", rich_help_panel=START)(setup.serve)
app.command("login", rich_help_panel=START)(setup.login)
app.add_typer(mqtt.app, name="mqtt", rich_help_panel=START)
app.add_typer(model.app, name="model", rich_help_panel=MODELS)
for command in steering.COMMANDS:
    rollout.app.command()(command)
app.add_typer(rollout.app, name="rollout", rich_help_panel=MODELS)
app.add_typer(fleet.app, name="fleet", rich_help_panel=MODELS)
app.add_typer(drift.app, name="drift", rich_help_panel=MODELS)
federated.app.command()(flower_export.export)
app.add_typer(federated.app, name="federated", rich_help_panel=MODELS)
app.add_typer(incident.app, name="incident", rich_help_panel=MODELS)
app.command("predict", rich_help_panel=MODELS)(predict.predict)
app.add_typer(device.app, name="device", rich_help_panel=FLEET)
app.add_typer(token.app, name="token", rich_help_panel=FLEET)
app.add_typer(mirror.app, name="mirror", rich_help_panel=FLEET)
app.add_typer(key.app, name="key", rich_help_panel=TRUST)
app.add_typer(trust.app, name="trust", rich_help_panel=TRUST)
app.add_typer(audit.operators, name="operator", rich_help_panel=TRUST)
app.add_typer(audit.app, name="audit", rich_help_panel=TRUST)


def run(application: Callable[[], None] = app) -> None:
    """Runs the command line; what a person or the controller got wrong is told without a traceback."""
    open_streams()
    # What gRPC's core would write to standard error is told by our own errors, and in words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        try:
            application()
        finally:
            sys.stdout.flush()  # while a failure can still be told
    except BrokenPipeError:
        abandon_output()
        raise SystemExit(1) from None
    except OSError as error:  # files and links are seen to where they are used: this was the output
        abandon_output()
        where = error.filename or "standard output"
        fail(
            CommandFailed("output", f"{where}: {error.strerror}", "Make room, or write elsewhere.")
        )
    except CommandFailed as error:
        fail(error)
    except ControllerError as error:
        fail(CommandFailed(error.code, error.detail, error.remedy))
    except DocumentError as error:
        remedy = "What was to be read is damaged, or something else: get it anew, and trust it not."
        fail(CommandFailed(error.code, error.detail, remedy))
    except KeyboardInterrupt:
        sys.stderr.write("ended\n")
        raise SystemExit(1) from None
