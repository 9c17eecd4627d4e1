"""What the demo observed, as data: ``muster demo --json FILE``."""

from collections.abc import Mapping, Sequence

import msgspec

from simulations.demo.timeline import Moment


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What moved on a device, with its numbers."""

    series: str
    statistic: str
    value: float | None
    threshold: float | None
    p_value: float | None
    effect: float | None
    severity: str
    detail: str


class DeviceEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One device at the end: from its own signed reports and from whoever sent it requests."""

    device: str
    model: str
    version: int
    model_sha256: str  # of the file that the runtime loaded, as the device signed it
    generation: int
    approvals_verified: int
    verdict: str
    unlike_the_rest: bool
    findings: Sequence[Finding]
    requests_served: int
    requests_failed: int
    images: int
    accuracy_before_drift: float
    answered_by_version: Mapping[str, int]
    slowest_seconds: float
    inverted: bool


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried on a device, and what it answered."""

    name: str
    what: str
    device: str
    expected_code: str
    code: str
    detail: str

    @property
    def refused(self) -> bool:
        """Whether the device refused it, and for the right reason."""
        return self.code == self.expected_code


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """A bad version's rollout, which ended by itself.

    ``failed_at_canary`` and ``failed_elsewhere`` are requests while it lasted; ``untouched`` are
    devices that were told nothing meanwhile.
    """

    rollout: str
    version: int
    state: str
    reason: str
    seconds: float
    canary: str
    code: str
    detail: str
    failed_at_canary: int
    failed_elsewhere: int
    untouched: Sequence[str]


class RoundEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One round of a federated run; ``reasons`` are those of declined and refused replies, by code."""

    round: int
    selected: int
    admitted: int
    declined: int
    refused: int
    silent: int
    reasons: Mapping[str, int]
    metrics: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    seconds: float


class Relearnt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a change that all cameras saw. Accuracies are of the worst device.

    They were measured on photographs that no camera shows: plain and inverted before, then inverted
    and plain after. ``update_bytes`` made the candidate of its parent, in place of ``model_bytes``.
    """

    incident: str
    run: str
    candidate: int
    accuracy_before: float
    accuracy_drifted: float
    accuracy_after: float
    accuracy_after_on_plain: float
    update_bytes: int
    model_bytes: int
    rounds: Sequence[RoundEvidence]
    story: Sequence[str]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``passed`` is whether everything was observed that must be."""

    passed: bool
    seconds: float
    devices: Sequence[DeviceEvidence]
    stopped: Stopped | None
    relearnt: Relearnt | None
    attacks: Sequence[Attack]
    audit_records: int
    windows_stored: int
    timeline: Sequence[Mapping[str, object]]

    def encode(self) -> bytes:
        """Indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def told(moments: Sequence[Moment]) -> list[Mapping[str, object]]:
    """The timeline as data."""
    return [
        {"at": one.at, "chapter": one.chapter, "line": one.line, "held": one.held}
        for one in moments
    ]
