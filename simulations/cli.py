"""The entry point `muster`: the operator commands, and what the outermost layer adds to them."""

from controller.cli.main import START, app, run
from simulations.demo.command import demo
from simulations.demo.example import example

app.command("demo", rich_help_panel=START)(demo)
app.command("example", rich_help_panel=START)(example)


def main() -> None:
    """Runs the command line."""
    run(app)
