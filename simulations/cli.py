"""The entry point `muster`: the operator commands, and what the outermost layer adds to them."""

import functools
import sys
from collections.abc import Callable
from typing import Final

OURS: Final = ("agent", "controller", "protos", "simulations")
OF_DEMO: Final = ("skl2onnx", "sklearn")


def main() -> None:
    """Runs the command line; an installation that lacks what a command needs is told so."""
    try:
        _run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS:
            raise
        extra = "demo" if package in OF_DEMO else "controller"
        sys.stderr.write(
            f"error: this command needs {package}, which is not installed [not-installed]\n"
            f"  what to do: Install Muster with it: `pip install 'muster[{extra}]'`.\n"
        )
        raise SystemExit(1) from None


def _run() -> None:
    # A device is installed without any of this.
    from controller.cli.main import run  # noqa: PLC0415

    run(_command())


@functools.cache
def _command() -> Callable[[], None]:
    """Every command; built once, also for whoever runs the command line many times."""
    from typer.main import get_command  # noqa: PLC0415

    from controller.cli.main import START, app  # noqa: PLC0415
    from simulations.demo.command import demo  # noqa: PLC0415
    from simulations.demo.example import example  # noqa: PLC0415
    from simulations.fleet.command import simulate  # noqa: PLC0415

    app.command("demo", rich_help_panel=START)(demo)
    app.command("example", rich_help_panel=START)(example)
    app.command("simulate", rich_help_panel=START)(simulate)
    return get_command(app)
