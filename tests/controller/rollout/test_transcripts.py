import asyncio
from pathlib import Path

import pytest

from tests.controller.rollout.world import GOLDEN, play


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.txt")), ids=lambda path: path.stem)
def test_a_script_prints_what_its_transcript_says(path: Path) -> None:
    assert asyncio.run(play(path.read_text())) == path.read_text()


def test_there_are_transcripts() -> None:
    assert len(list(GOLDEN.glob("*.txt"))) >= 8
