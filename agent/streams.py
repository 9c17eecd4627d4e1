"""Standard input, output and error of a command: whatever a shell has made of them."""

import contextlib
import io
import os
import sys
from pathlib import Path


def open_streams() -> None:
    """Lets every text be read and written, in any encoding, even where a shell has closed the stream."""
    nowhere = Path(os.devnull)
    if sys.stdin is None:
        sys.stdin = nowhere.open()
    if sys.stdout is None:
        sys.stdout = nowhere.open("w")
    if sys.stderr is None:
        sys.stderr = nowhere.open("w")
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_output() -> None:
    """What was not written yet is dropped: nobody reads it, or it finds no room."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
