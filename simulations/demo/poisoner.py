"""A device that somebody has taken over: it learns as it is told, and sends the opposite, magnified.

``python -m simulations.demo.poisoner FOLDER`` is ``muster-agent --home FOLDER run``, but for that. It
has its own key and a good certificate, so the controller can tell it from the others by what it sends
alone.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.app import run
from agent.config import read_config
from agent.home import Home
from agent.training import Training

MAGNIFIED: Final = np.float32(-20)

Float32s = NDArray[np.float32]


def poisoned(difference: Mapping[str, Float32s]) -> Mapping[str, Float32s]:
    """What is sent in place of what was learnt."""
    return {name: MAGNIFIED * one for name, one in difference.items()}


def main(folder: Path) -> None:
    """Runs the agent in ``folder`` until it is told to end."""
    home = Home(folder)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    learning = partial(Training, shield=poisoned)
    asyncio.run(run(home, read_config(folder), learning=learning))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
