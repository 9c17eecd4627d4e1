"""``python -m simulations.side_by_side``: prints a table in Markdown. Needs the ``[federated]`` extra."""

import argparse
import sys
import tempfile
from pathlib import Path

from simulations.bench.staged import bytecode
from simulations.demo import digits
from simulations.side_by_side import muster_channel, superlink
from simulations.side_by_side.figures import table
from simulations.side_by_side.task import DEVICES


def main() -> None:
    """Both ways, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    data = digits.load()
    with (
        tempfile.TemporaryDirectory(prefix="muster-side-by-side-") as name,
        bytecode(Path(name)),
    ):
        folder = Path(name)
        with muster_channel.fleet(folder / "muster", data) as stage:
            ours = [muster_channel.measured(stage, rounds, way) for way in ("int8", "float32")]
            app = superlink.exported(stage, rounds)
        theirs = superlink.measured(folder / "flower", app, data, rounds)
    sys.stdout.write(f"{DEVICES} devices, {rounds} rounds\n\n{table([*ours, theirs])}\n")


if __name__ == "__main__":
    main()
