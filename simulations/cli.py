"""The entry point `muster`: the operator commands, and what the outermost layer adds to them."""

from controller.cli.main import app, run


def main() -> None:
    """Runs the command line."""
    run(app)
