"""What passes between the controller and the process that makes a candidate: one message of msgpack each."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from agent.federated.evaluation import Evaluation
from agent.monitor.counts import Counts
from agent.monitor.reference import CELLS
from controller.candidate.preparation import TrainedParent
from controller.candidate.trained import Float32s, Trained
from protos.manifest import Manifest, Role


class Array(msgspec.Struct, frozen=True):
    """float32, little-endian."""

    shape: tuple[int, ...]
    data: bytes


class Window(msgspec.Struct, frozen=True):
    """``Counts``: int64 and float64, little-endian."""

    profile: str
    rows: int
    cells: bytes
    sums: bytes
    least: bytes
    greatest: bytes


class CandidateJob(msgspec.Struct, frozen=True, kw_only=True):
    """What to make a candidate of, and within which limits.

    Attributes:
        manifest, files, golden_of: a ``TrainedParent``.
        seed: of the randomness that thresholds are calibrated with.
        seconds: of processor time and of wall time, after which the kernel ends the process.
        memory_bytes: what it may take beyond the job itself.
    """

    manifest: Manifest
    files: Mapping[Role, bytes]
    golden_of: str
    run: str
    round: int
    parameters: Mapping[str, Array]
    devices: int
    evaluated: int
    before: Evaluation
    after: Evaluation
    windows: Sequence[Window]
    seed: int
    seconds: int
    memory_bytes: int

    @property
    def parent(self) -> TrainedParent:
        """The version that was trained on."""
        return TrainedParent(self.manifest, self.files, self.golden_of)

    @property
    def trained(self) -> Trained:
        """What the run has brought."""
        return Trained(
            run=self.run,
            round=self.round,
            parameters={name: _array(one) for name, one in self.parameters.items()},
            devices=self.devices,
            evaluated=self.evaluated,
            before=self.before,
            after=self.after,
        )

    @property
    def counts(self) -> Sequence[Counts]:
        """What devices told of the parent's data last."""
        return [_counts(one) for one in self.windows]


def candidate_job(
    parent: TrainedParent,
    trained: Trained,
    windows: Sequence[Counts],
    seed: int,
    seconds: int,
    memory_bytes: int,
) -> CandidateJob:
    """The job that says so."""
    return CandidateJob(
        manifest=parent.manifest,
        files=parent.files,
        golden_of=parent.golden_of,
        run=trained.run,
        round=trained.round,
        parameters={
            name: Array(one.shape, one.astype("<f4").tobytes())
            for name, one in trained.parameters.items()
        },
        devices=trained.devices,
        evaluated=trained.evaluated,
        before=trained.before,
        after=trained.after,
        windows=[_window(one) for one in windows],
        seed=seed,
        seconds=seconds,
        memory_bytes=memory_bytes,
    )


def _array(told: Array) -> Float32s:
    return np.frombuffer(told.data, "<f4").reshape(told.shape)


def _window(counts: Counts) -> Window:
    return Window(
        profile=counts.profile,
        rows=counts.rows,
        cells=counts.cells.astype("<i8").tobytes(),
        sums=counts.sums.astype("<i8").tobytes(),
        least=counts.least.astype("<f8").tobytes(),
        greatest=counts.greatest.astype("<f8").tobytes(),
    )


def _counts(told: Window) -> Counts:
    return Counts(
        profile=told.profile,
        rows=told.rows,
        cells=np.frombuffer(told.cells, "<i8").reshape(-1, CELLS),
        sums=np.frombuffer(told.sums, "<i8").reshape(-1, 2),
        least=np.frombuffer(told.least, "<f8"),
        greatest=np.frombuffer(told.greatest, "<f8"),
    )
