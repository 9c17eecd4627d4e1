"""Asks that devices be told once it stands, and again at all news; ends with its standard input.

The one of the run ``forks`` has a process of its own, as an app may have that has a pool of them; it
holds the pipes as well, and the end of ``HOME/left`` is its end.
"""

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.stderr.write(f"{' '.join(sys.argv[1:])}\n")
    sys.stderr.flush()
    if sys.argv[-1] == "forks" and os.fork() == 0:
        left = os.open(Path(sys.argv[2], "left"), os.O_WRONLY)
        signal.pause()
    os.write(1, b".")
    while os.read(0, 1):
        os.write(1, b".")
    sys.exit(7)
