"""The entry point `muster-agent`: enrol, run, status, doctor."""


def main() -> None:
    """Runs the command line."""
