"""What all devices and the controller of a simulation share."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from agent.install.change import Change
from agent.install.probation import DEFAULT_POLICY, ProbationPolicy
from protos.documents import Directive, Report, canonical
from protos.v1 import common_pb2
from simulations.fleet.queue import EPOCH, Queue
from simulations.fleet.scenario import Quality
from simulations.fleet.tally import Tally
from simulations.fleet.truth import Edition

if TYPE_CHECKING:
    from simulations.fleet.device import Device


def unsigned(document: Directive | Report) -> bytes:
    """A serialised ``muster.v1.Envelope`` of the document, which nobody has signed."""
    return common_pb2.Envelope(
        payload=canonical(document), payload_type=document.payload_type
    ).SerializeToString()


@dataclass(frozen=True, slots=True)
class Packet:
    """One record of a device's spool, and its envelope."""

    sequence: int
    report: Report
    envelope: bytes

    @classmethod
    def of(cls, sequence: int, report: Report) -> "Packet":
        """The report, in its envelope."""
        return cls(sequence, report, unsigned(report))

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.envelope)


class Chronicle(Protocol):
    """Takes down what happens."""

    def changed(self, device: "Device", change: Change) -> None:
        """An install or a slot has changed."""
        ...

    def happened(self, device: "Device", what: str) -> None:
        """Something else has happened on the device: ``restarted in self-test``."""
        ...


class Centre(Protocol):
    """The controller, as devices see it."""

    @property
    def is_up(self) -> bool: ...  # noqa: D102 - whether it can be dialled

    def connected(self, device: "Device") -> None:
        """A link has come up."""
        ...

    def lost(self, device: "Device") -> None:
        """A link has ended."""
        ...

    def upload(self, device: "Device", packets: Sequence[Packet]) -> int:
        """Stores them; up to which sequence nothing needs to be sent again."""
        ...


class Lines(Protocol):
    """The links, as devices see them."""

    def tell(self, device: "Device") -> None:
        """The device reports what has changed, now or as soon as it can."""
        ...

    def dial(self, device: "Device") -> None:
        """The device tries to get a link until it has one."""
        ...

    def hang_up(self, device: "Device") -> None:
        """The link ends, if there is one."""
        ...

    def block(self, device: "Device") -> None:
        """Nothing gets through to the device, or from it."""
        ...

    def unblock(self, device: "Device") -> None:
        """Takes one ``block`` back."""
        ...


@dataclass(eq=False)
class Ground:
    """The world that devices stand on.

    Attributes:
        editions: by reference; ``by_digest`` by the manifest's.
        rng, numbers: all chance; what asks them in another order is another simulation.
        gathering: seconds for which a device gathers what it reports.
    """

    queue: Queue
    rng: random.Random
    numbers: np.random.Generator
    editions: Mapping[str, Edition]
    quality: Quality
    requests_per_second: float
    chronicle: Chronicle
    tally: Tally
    gathering: float = 0.0
    probation: ProbationPolicy = DEFAULT_POLICY
    centre: Centre = field(init=False)
    line: Lines = field(init=False)
    by_digest: Mapping[str, Edition] = field(init=False)

    def __post_init__(self) -> None:
        """Finds editions by digest, too."""
        self.by_digest = {one.sha256: one for one in self.editions.values()}

    @property
    def unix(self) -> float:
        """The right time."""
        return EPOCH + self.queue.now
