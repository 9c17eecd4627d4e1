"""What passes between the agent and the process that tests a version: one line of JSON each."""

from typing import Final

import msgspec

LINE_BYTES: Final = 4 * 1024 * 1024  # a manifest has 1 MiB at most, and is a string in here


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to test, and within which limits.

    Attributes:
        manifest: as signed.
        model_path: the file of that role.
        golden_path: the file of that role.
        seconds: of processor time and of wall time, after which the kernel ends the process.
        measuring_seconds: how long latency may be measured.
    """

    manifest: str
    model_path: str
    golden_path: str
    seconds: float
    measuring_seconds: float


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The runtime is imported and nothing is loaded yet: what is resident now is not the model's."""

    resident_bytes: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. ``code`` is an ``agent.errors`` code; empty if every golden output was right."""

    p99_seconds: float = 0.0
    peak_bytes: int = 0
    max_difference: float = 0.0
    code: str = ""
    detail: str = ""
