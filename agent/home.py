"""The agent's folder: what stands where."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT: Final = Path("/var/lib/muster-agent")
VARIABLE: Final = "MUSTER_AGENT_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below the agent's folder."""

    path: Path

    @property
    def key(self) -> Path:
        """The device's private key, mode 0600."""
        return self.path / "device.key"

    @property
    def blobs(self) -> Path:
        """Bundles' files, by digest."""
        return self.path / "blobs"

    @property
    def training_blobs(self) -> Path:
        """Parameters, updates and what rounding has left of them, by digest."""
        return self.path / "training"

    @property
    def training(self) -> Path:
        """Whether the device would train, as the agent noted last, JSON."""
        return self.path / "training.json"

    @property
    def ports(self) -> Path:
        """Where a running agent answers: written when it has bound, JSON."""
        return self.path / "ports.json"

    @property
    def link(self) -> Path:
        """Whether the link to the controller is up, as the agent noted last, JSON."""
        return self.path / "link.json"


def home_of(named: Path | None) -> Home:
    """The folder named on the command line, or by ``$MUSTER_AGENT_HOME``, or the default.

    A variable that is set to nothing names none: it would mean whatever folder one stands in.
    """
    return Home((named or Path(os.environ.get(VARIABLE) or DEFAULT)).absolute())
