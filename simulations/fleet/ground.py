"""What all devices and the controller of a simulation share: time, chance, what is true of versions."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from agent.install.probation import DEFAULT_POLICY, ProbationPolicy
from protos.documents import Directive, Report, canonical
from protos.v1 import common_pb2
from simulations.fleet.queue import EPOCH, Queue
from simulations.fleet.scenario import Quality
from simulations.fleet.tally import Tally
from simulations.fleet.truth import Edition


def unsigned(document: Directive | Report) -> bytes:
    """A serialised ``muster.v1.Envelope`` of the document, which nobody has signed."""
    return common_pb2.Envelope(
        payload=canonical(document), payload_type=document.payload_type
    ).SerializeToString()


def envelope_size(document: Directive | Report) -> int:
    """How many bytes its envelope has, which need not be made for that."""
    payload = len(canonical(document))
    # Of each field its tag, its length in groups of seven bits, and its bytes.
    groups = 1 if payload < 1 << 7 else 2 if payload < 1 << 14 else -(-payload.bit_length() // 7)
    return 1 + groups + payload + 2 + len(document.payload_type)


class Packet(msgspec.Struct, frozen=True):
    """One record of a device's spool: a report, and the size of the envelope that nobody signs."""

    sequence: int
    report: Report
    size: int

    @classmethod
    def of(cls, sequence: int, report: Report) -> "Packet":
        """The report, as it is spooled."""
        return cls(sequence, report, envelope_size(report))


@dataclass(eq=False)
class Ground:
    """What everything stands on that takes part.

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
    tally: Tally
    gathering: float = 0.0
    probation: ProbationPolicy = DEFAULT_POLICY
    by_digest: Mapping[str, Edition] = field(init=False)

    def __post_init__(self) -> None:
        """Finds editions by digest, too."""
        self.by_digest = {one.sha256: one for one in self.editions.values()}

    @property
    def unix(self) -> float:
        """The right time."""
        return EPOCH + self.queue.now
