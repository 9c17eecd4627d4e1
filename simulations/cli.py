"""The entry point `muster`: the operator commands, and what the outermost layer adds to them."""

from controller.cli.main import START, app, run
from simulations.demo.command import demo

app.command("demo", rich_help_panel=START)(demo)


def main() -> None:
    """Runs the command line."""
    run(app)
