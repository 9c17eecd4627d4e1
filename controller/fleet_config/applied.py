"""A fleet's file as it was last applied."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AppliedFleet:
    """The newest file of a fleet.

    Attributes:
        text: all of it.
        sha256: of the text.
        applied_at: Unix seconds.
    """

    name: str
    text: str
    sha256: str
    applied_at: float
    applied_by: str
