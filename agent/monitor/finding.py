"""What a monitor concludes: frozen values."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_FINDINGS: Final = 20
"""The largest are kept: with pictures, one cause moves hundreds of pixels."""


class Verdict(StrEnum):
    """What a window says. Too little data is never ``ok``."""

    INSUFFICIENT_DATA = "insufficient_data"
    OK = "ok"
    DRIFT = "drift"
    BAD_DATA = "bad_data"


class Severity(StrEnum):
    """How urgent a finding is."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Finding:
    """One series that is not as in the reference.

    Attributes:
        kind: "drift" or "quality".
        statistic: which spoke loudest: "ks", "chi_square", "rare_share", "nan_share", …
        value, threshold: of the statistic, in its own unit.
        p_value: chance that a healthy window shows so much in any series.
        effect: how large the change is, 0 to 1.
        detail: one sentence for a person.
    """

    series: str
    kind: str
    statistic: str
    value: float
    threshold: float
    p_value: float
    effect: float
    severity: Severity
    detail: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and its reasons, the largest first.

    Attributes:
        findings: of ``bad_data``, what is faulty, and behind it what moved in other series.
        p_value: chance that a healthy window shows as much drift; 1 where it was not tested.
    """

    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    p_value: float = 1.0
