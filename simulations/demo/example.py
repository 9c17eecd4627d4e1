"""`muster example`: the files of the README's walk, so that a person can try every command by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from controller.cli.output import CommandFailed, console

PHOTOGRAPHS: Final = 500
"""Enough for a window of the agent in ``AGENT_CONFIG``."""

AGENT_CONFIG: Final = """\
# For trying out: a device that judges its data after 300 rows and reports every two seconds.
[installing]
probation_seconds = 10.0

[watching]
window_rows = 300
window_seconds = 2.0

[reporting]
interval_seconds = 2.0

[training]
collect = true
hold_out = 0.3
"""

RUN_FILE: Final = """\
# For trying out: a federated run of a single device. fleet_configs/federated.toml has every key.
[run]
model = "digits/1"
rounds = 3

[round]
minimum_cohort = 1

[training]
epochs = 50
"""


@dataclass(frozen=True, slots=True)
class ExampleFile:
    """A file of the example, and what it is good for."""

    name: str
    data: bytes
    purpose: str


def example(
    folder: Annotated[Path, typer.Argument(help="Where to write them; made if it is missing.")],
) -> None:
    """Write a digits classifier, its data and an agent's configuration, to try Muster with.

    The classifier is trained on the spot on scikit-learn's photographs of handwritten digits.

    ```
    muster example digits
    ```
    """
    with console().status("training two versions of a digits classifier …"):
        files = example_files()
    taken = [one.name for one in files if (folder / one.name).exists()]
    if taken:
        raise CommandFailed("conflict", f"{folder / taken[0]} is there already", "Name another.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in files:
            (folder / one.name).write_bytes(one.data)
    except OSError as error:
        raise CommandFailed("bad-input", f"{error.filename}: {error.strerror}") from error
    for one in files:
        console().print(f"{folder / one.name}  {one.purpose}", markup=False)


def example_files() -> Sequence[ExampleFile]:
    """Two versions of a model, what they were tested on, and what two cameras see."""
    from simulations.demo import digits  # noqa: PLC0415 - a quick --help

    data = digits.load()
    images, labels = data.holdout_images, data.holdout_labels
    seen, shown = images[:PHOTOGRAPHS], labels[:PHOTOGRAPHS]
    return [
        ExampleFile("digits-1.onnx", digits.train(data, 1).onnx, "version 1 of a classifier"),
        ExampleFile("digits-2.onnx", digits.train(data, 2).onnx, "a better one"),
        ExampleFile(
            "reference.npz", digits.reference_file(images, labels), "what its data look like"
        ),
        ExampleFile("photographs.npz", digits.image_file(seen), "what a camera sees"),
        ExampleFile(
            "inverted.npz",
            digits.reference_file(digits.inverted(seen), shown),
            "what a camera sees that is set up wrongly, and what it is",
        ),
        ExampleFile("run.toml", RUN_FILE.encode(), "a federated run"),
        ExampleFile(
            "agent.toml", AGENT_CONFIG.encode(), "a device that watches closely, and learns"
        ),
    ]
