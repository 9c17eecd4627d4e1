"""The roles of the image metadata: who signs what, for how long, and when to sign again.

===============  =====================  ==========================  ========
role             keys                   says                        valid
===============  =====================  ==========================  ========
root             people's, offline      which keys the rest have    1 year
targets          people's, offline      models and their approvers  1 year
models-<name>    approvers', offline    the versions of one model   1 year
snapshot         online                 which metadata is current   7 days
timestamp        online                 that this is fresh          1 day
===============  =====================  ==========================  ========
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

ROOT: Final = "root"
TARGETS: Final = "targets"
SNAPSHOT: Final = "snapshot"
TIMESTAMP: Final = "timestamp"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long new metadata of each role is valid."""

    root: timedelta = timedelta(days=365)
    targets: timedelta = timedelta(days=365)
    model: timedelta = timedelta(days=365)
    snapshot: timedelta = timedelta(days=7)
    timestamp: timedelta = timedelta(days=1)

    def of(self, role: str) -> timedelta:
        """The lifetime of ``role``; every role that is not top-level is a model's."""
        match role:
            case "root":
                return self.root
            case "targets":
                return self.targets
            case "snapshot":
                return self.snapshot
            case "timestamp":
                return self.timestamp
            case _:
                return self.model


DEFAULT_LIFETIMES: Final = Lifetimes()


def renewal_due(expires: datetime, lifetime: timedelta, now: datetime) -> bool:
    """Whether to sign again: half of the lifetime is over.

    The other half is what a controller may be down before devices refuse new installs.
    """
    return expires - now <= lifetime / 2


def renewal_at(expires: datetime, lifetime: timedelta) -> datetime:
    """When ``renewal_due`` first holds."""
    return expires - lifetime / 2
