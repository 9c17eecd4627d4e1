"""The entry point `muster`: the operator commands, and what the outermost layer adds to them."""


def main() -> None:
    """Runs the command line."""
