"""Plays federated runs and prints what came of them: ``python -m simulations.study [PART …]``."""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from controller.cli.output import console, say
from simulations.study.table import Scale, Table, as_json
from simulations.study.trial import quiet

PARTS: Final = ("strategies", "poisoning", "dropouts", "asynchronous", "memory")
QUICK: Final = Scale(
    rounds=8,
    seeds=1,
    names=frozenset(
        {"IID", "two shards", "FedAvg", "FedAvgM", "FedTrimmedAvg", "MultiKrum", "-20 w + 5"}
    ),
)


def main(words: Sequence[str]) -> int:
    """Prints a table a figure; status 0 whatever they are: a study is no test."""
    parser = argparse.ArgumentParser(prog="python -m simulations.study", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, one seed: a minute")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes; 0 is this one alone"
    )
    parser.add_argument("--output", type=Path, help="also write FILE.md and FILE.json")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    given = parser.parse_args(words)
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    quiet()
    found: list[Table] = []
    for part in given.parts or PARTS:
        found += _played(part, QUICK if given.quick else Scale(), given.workers)
    if given.output is not None:
        text = "\n".join(one.markdown() for one in found)
        given.output.with_suffix(".md").write_text(text)
        given.output.with_suffix(".json").write_text(as_json(found))
    return 0


def _played(part: str, scale: Scale, workers: int) -> list[Table]:
    began = time.monotonic()
    with console(error=True).status(f"{part} …"):
        tables: list[Table] = importlib.import_module(f"simulations.study.{part}").tables(
            scale, workers
        )
    for one in tables:
        say(one.markdown())
    console(error=True).print(f"{part}: {time.monotonic() - began:.0f} s")
    return tables


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
