"""One measured number."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BenchRow:
    """What was measured, next to what is aimed at.

    Attributes:
        target: the value to reach, in ``unit``; None where only the ratio matters.
        ratio: the same against the bare thing in this run: "1.3 x onnxruntime alone".
        note: what a reader must know to believe it.
    """

    name: str
    value: float
    unit: str
    target: float | None
    ratio: str = ""
    note: str = ""
