"""Whether this device would train now, and if not why: left where a command beside finds it."""

import logging
from pathlib import Path

import msgspec

from agent.federated.readiness.message import Told

log = logging.getLogger(__name__)


_decoder = msgspec.json.Decoder(tuple[Told, ...])  # no two threads may be the first to use it


def read_training(path: Path) -> tuple[Told, ...]:
    """What was noted last of the models with a training step; nothing if it can't be read."""
    try:
        return _decoder.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return ()


def note_training(path: Path, models: tuple[Told, ...]) -> None:
    """Whole or not at all; a full disk costs the note and nothing else."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_bytes(msgspec.json.encode(models))
        fresh.replace(path)
    except OSError as error:
        log.warning("training.not-noted detail=%s: %s", path, error.strerror)
