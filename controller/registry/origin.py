"""Where a version comes from that devices have trained: for its card."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run has left to be told.

    Attributes:
        data: what the metrics were measured on: "examples that 5 devices hold out".
        facts: what else there is to know of the run, by name.
        parent_train_step: SHA-256 of the parent's train step, which this version's was made of.
    """

    data: str
    facts: Mapping[str, str]
    parent_train_step: str = ""
