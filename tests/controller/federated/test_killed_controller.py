"""Killed at any write of a whole run, and started again, a controller comes to the same bits."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.monitor.counts import Counts
from agent.runtimes.onnx import OnnxRuntime
from controller.candidate.actions import here
from controller.candidate.preparation import TrainedParent
from controller.candidate.trained import Trained
from controller.registry.preparation import Prepared
from protos.documents import sha256
from tests.controller.federated.mortal_controller import founded, lived


class OnceMade:
    """Makes each candidate once: what is made of the same is the same."""

    def __init__(self) -> None:
        self._here = here(OnnxRuntime())
        self._made: dict[tuple[str, ...], Prepared] = {}

    def __call__(
        self, parent: TrainedParent, trained: Trained, windows: Sequence[Counts], seed: int
    ) -> Prepared:
        asked = (
            trained.run,
            str(seed),
            *(sha256(a.tobytes()) for a in trained.parameters.values()),
        )
        if asked not in self._made:
            self._made[asked] = self._here(parent, trained, windows, seed)
        return self._made[asked]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files wait for no disk: what a process has written outlives its kill."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("hasty")
async def test_a_controller_killed_after_any_write_and_started_again_comes_to_the_same_bits(
    tmp_path: Path,
) -> None:
    """Before a write is after the one before it; replies are as those of the second round in all."""
    preparing = OnceMade()
    whole = await lived(founded(tmp_path / "begun"), preparing, tmp_path)
    moments = [one for one in whole.shots if one.closed == 1 or not one.replies]
    assert {one.closed for one in moments} == {0, 1, 2, 3}
    assert {one.replies for one in moments} == {0, 1, 2, 3}
    assert whole.end["waits"]

    for shot in moments:
        again = await lived(shot, preparing)
        assert again.end == whole.end, shot
