"""Measures everything and prints it: ``python -m simulations.bench [--output table|json] [PART …]``."""

import argparse
import dataclasses
import importlib
import sys

from controller.cli.output import Output, console, show_json, show_rows
from simulations.bench.row import BenchRow

PARTS = (
    *("trust", "monitor", "inference", "store", "agent", "planner", "simulation"),
    *("fleet", "transports"),
)

COLUMNS = {"name": "what", "value": "measured", "target": "to reach",
           "ratio": "against the bare thing", "note": "note"}  # fmt: skip


def main() -> int:
    """Prints one row a number; status 0 whatever they are: a benchmark is no test."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench", description=__doc__)
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    rows: list[BenchRow] = []
    for part in arguments.parts or PARTS:
        with console(error=True).status(f"measuring {part} …"):
            rows += importlib.import_module(f"simulations.bench.{part}").rows()
    if arguments.output == "json":
        show_json([dataclasses.asdict(row) for row in rows])
    else:
        shown = [
            {
                "name": row.name,
                "value": f"{row.value:.4g} {row.unit}",
                "target": "" if row.target is None else f"{row.target:g} {row.unit}",
                "ratio": row.ratio,
                "note": row.note,
            }
            for row in rows
        ]
        show_rows(shown, COLUMNS, Output.TABLE, "nothing was measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
