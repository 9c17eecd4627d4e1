"""A real controller with an approved version of digits, for the parts that measure processes."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from simulations.demo import digits
from simulations.demo.operator import Operator
from simulations.demo.stage import Stage
from simulations.demo.timeline import Timeline


@contextmanager
def staged(devices: int) -> Iterator[tuple[Stage, Operator]]:
    """A stage in a folder of its own, its controller not yet made; every process ends with it."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder, bytecode(Path(folder)):
        stage = Stage(Path(folder), devices)
        try:
            yield stage, Operator(stage, Timeline(Console(quiet=True)), digits.load())
        finally:
            stage.stop()


@contextmanager
def bytecode(folder: Path) -> Iterator[None]:
    """Processes that are started within keep their bytecode in ``folder``, as an installed agent does.

    Where nobody may write bytecode, every start compiles everything anew: that takes a second and
    leaves some MiB of broken-up heap, which says nothing of the agent.
    """
    before = dict(os.environ)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def publish_digits(operator: Operator) -> None:
    """Registers version 1 of digits, and has both approvers sign it."""
    operator.appoint()
    operator.register(1)
    operator.approve_all(1)


def load_note() -> str:
    """How busy the machine is, in the words of a row's note: what is shared slows what is measured."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
