"""Asks that devices be told once it stands, and again at all news; ends with its standard input."""

import os
import sys

if __name__ == "__main__":
    sys.stderr.write(f"{' '.join(sys.argv[1:])}\n")
    sys.stderr.flush()
    os.write(1, b".")
    while os.read(0, 1):
        os.write(1, b".")
    sys.exit(7)
