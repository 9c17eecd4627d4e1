"""The train step against PyTorch: ``make oracle-bench``.

Both sides run the seven models over batches of 32, each in a process of its own, by turns; of
several medians the least is told, for the machine may be busy. On a busy machine believe the time
on cores. PyTorch's side runs in its own environment, whose interpreter is the first argument.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from agent.runtimes.onnx import OnnxRuntime
from controller.train_step.build import TrainOptions, build_train_step, canonical, parameters_of
from protos.train_step import LEARNING_RATE, TARGET, Loss
from tests.controller.train_step.oracle.reference import Array, Reference, read

MODELS: Final = (
    "logistic regression", "perceptron", "convolutional 8x8", "convolutional 28x28",
    "autoencoder", "mobile", "transformer",
)  # fmt: skip
TIMES: Final = 4  # a reference has eight rows
ROUNDS: Final = 7
SECONDS: Final = 0.4  # of each side in a round
HERE: Final = "tests.controller.train_step.oracle.bench"


class Told(NamedTuple):
    """Of one side: the median of a step in seconds, passed and on cores; its peak memory in MiB."""

    seconds: float
    busy: float
    peak: float


def main() -> int:
    """Prints a row a model and number of threads, and how many reach the aim."""
    pytorch = sys.argv[1]
    write = sys.stdout.write
    write(f"{'':20}          {'time':^25} {'on cores':^25} {'memory':^24}\n")
    write(f"{'model':20}  threads" + 3 * "   device PyTorch        x" + "\n")
    reached = {1: 0, 2: 0}
    for threads in (1, 2):
        for name in MODELS:
            ours, theirs = measured(name, threads, pytorch)
            reached[threads] += ours.seconds <= theirs.seconds / 2
            pairs = (
                (ours.seconds * 1e6, theirs.seconds * 1e6, "us"),
                (ours.busy * 1e6, theirs.busy * 1e6, "us"),
                (ours.peak, theirs.peak, "MiB"),
            )
            told = [f"{a:6.0f} {b:6.0f} {unit:3} {a / b:5.2f}" for a, b, unit in pairs]
            write(f"{name:20}  {threads:7}    " + "   ".join(told) + "\n")
            sys.stdout.flush()
    for threads, models in reached.items():
        write(f"half of PyTorch's time or less, {threads} threads: {models} of {len(MODELS)}\n")
    return 0


def measured(name: str, threads: int, pytorch: str) -> tuple[Told, Told]:
    """Ours and PyTorch's."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ends:
        prepare(Path(folder), read("models")[name])
        sides = [
            ends.enter_context(side(interpreter, module, folder, name, threads))
            for interpreter, module in ((sys.executable, "device"), (pytorch, "pytorch"))
        ]
        rounds = [[ask(one, SECONDS) for one in sides] for _ in range(ROUNDS)]
    ours, theirs = zip(*rounds, strict=True)
    return best(ours), best(theirs)


def best(rounds: Sequence[Told]) -> Told:
    """The least times, and the most memory."""
    seconds, busy, peak = zip(*rounds, strict=True)
    return Told(min(seconds), min(busy), max(peak))


def prepare(folder: Path, reference: Reference) -> None:
    """The train step, and what the device feeds it with."""
    runtime = OnnxRuntime()
    model = canonical(reference.model, runtime)
    options = TrainOptions(loss=Loss(reference.loss), sample_weight=False)
    step = build_train_step(model, options, runtime)
    names = [one.name for one in step.spec.parameters]
    feed: dict[str, Array] = {**parameters_of(model, names)}
    feed[LEARNING_RATE] = np.array(0.01, np.float32)
    for name, array in reference.inputs.items():
        feed[name] = np.concatenate([array] * TIMES)
    if step.spec.target_shape:
        feed[TARGET] = np.concatenate([reference.target] * TIMES)
    (folder / "step.onnx").write_bytes(step.graph)
    np.savez(folder / "feed.npz", allow_pickle=False, **feed)


Side = subprocess.Popen[str]


@contextlib.contextmanager
def side(interpreter: str, module: str, folder: str, name: str, threads: int) -> Iterator[Side]:
    """A process that answers to numbers of seconds, until the end of the block."""
    command = [interpreter, "-m", f"{HERE}.{module}", folder, name, str(threads)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ask(process: Side, seconds: float) -> Told:
    """What it tells of the steps that it makes in so many seconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return Told(**json.loads(process.stdout.readline()))


if __name__ == "__main__":
    sys.exit(main())
