"""Measures everything and prints it: ``python -m simulations.bench [--output table|json] [PART …]``."""

import argparse
import dataclasses
import importlib
import json
import sys

from rich.console import Console
from rich.table import Table

from simulations.bench.row import BenchRow

PARTS = ("trust", "monitor", "inference", "store", "agent", "fleet")


def main() -> int:
    """Prints one row a number; status 0 whatever they are: a benchmark is no test."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench", description=__doc__)
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    console = Console(stderr=True)
    rows: list[BenchRow] = []
    for part in arguments.parts or PARTS:
        with console.status(f"measuring {part} …"):
            rows += importlib.import_module(f"simulations.bench.{part}").rows()
    if arguments.output == "json":
        sys.stdout.write(json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
    else:
        Console().print(_table(rows))
    return 0


def _table(rows: list[BenchRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("what", "measured", "to reach", "against the bare thing", "note"):
        table.add_column(title, overflow="fold")
    for row in rows:
        target = "" if row.target is None else f"{row.target:g} {row.unit}"
        table.add_row(row.name, f"{row.value:.4g} {row.unit}", target, row.ratio, row.note)
    return table


if __name__ == "__main__":
    sys.exit(main())
