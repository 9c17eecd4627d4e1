"""What a model's data look like now, over the fleet and on each device."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import Field

from agent.monitor.finding import Finding
from controller.monitor.actions import DeviceRow, DriftReport, drift_report
from controller.web.access import Services, Viewer

router = APIRouter(tags=["monitoring"])

Number = Annotated[float | None, Field(description="null is infinite or undefined")]
VerdictText = Annotated[str, Field(description="insufficient_data, ok, drift or bad_data")]


@dataclass(frozen=True, slots=True)
class FindingAnswer:
    """What moved, with its evidence; ``detail`` says it in a sentence."""

    series: str
    kind: Annotated[str, Field(description="drift or quality")]
    statistic: str
    value: Number
    threshold: Number
    p_value: Number
    effect: Number
    severity: Annotated[str, Field(description="warning or critical")]
    detail: str

    @classmethod
    def of(cls, finding: Finding) -> Self:
        """As the monitor has it."""
        return cls(
            finding.series,
            finding.kind,
            finding.statistic,
            _finite(finding.value),
            _finite(finding.threshold),
            _finite(finding.p_value),
            _finite(finding.effect),
            finding.severity.value,
            finding.detail,
        )


@dataclass(frozen=True, slots=True)
class DeviceDriftAnswer:
    """One device's newest windows, judged now in the light of the whole fleet."""

    device: str
    verdict: VerdictText
    broken: Annotated[bool, Field(description="unlike the rest of the fleet: send a technician")]
    told: Annotated[str, Field(description="what the device itself said of its newest window")]
    rows: Annotated[int, Field(description="predictions that were judged")]
    windows: int
    last_ended_ms: Annotated[int, Field(description="Unix milliseconds")]
    findings: tuple[FindingAnswer, ...]

    @classmethod
    def of(cls, row: DeviceRow) -> Self:
        """As the monitor has it."""
        return cls(
            row.device,
            row.verdict.value,
            row.broken,
            row.told.value,
            row.rows,
            row.windows,
            row.last_ended_ms,
            _findings(row.findings),
        )


@dataclass(frozen=True, slots=True)
class DriftAnswer:
    """The fleet's merged counts against the reference, without the broken devices."""

    model: str
    version: int
    profile_sha256: str
    verdict: VerdictText
    rows: Annotated[int, Field(description="predictions that were judged")]
    windows: Annotated[int, Field(description="windows that are stored in all")]
    last_ended_ms: Annotated[int, Field(description="Unix milliseconds")]
    findings: tuple[FindingAnswer, ...]
    devices: tuple[DeviceDriftAnswer, ...]
    sentences: Annotated[tuple[str, ...], Field(description="all of it for a person")]

    @classmethod
    def of(cls, report: DriftReport) -> Self:
        """As the monitor has it."""
        return cls(
            report.model,
            report.version,
            report.profile_sha256,
            report.verdict.value,
            report.rows,
            report.windows,
            report.last_ended_ms,
            _findings(report.findings),
            tuple(DeviceDriftAnswer.of(one) for one in report.devices),
            report.sentences,
        )


@router.get("/drift/{model}")
def show_drift(
    services: Services,
    _: Viewer,
    model: str,
    version: Annotated[
        int | None, Query(ge=1, description="the newest that devices told of")
    ] = None,
    since_ms: Annotated[int, Query(ge=0, description="Unix milliseconds")] = 0,
) -> DriftAnswer:
    """Which devices are broken, and whether the world has changed."""
    report = drift_report(services.store, services.blobs, model, version=version, since_ms=since_ms)
    return DriftAnswer.of(report)


def _findings(findings: Iterable[Finding]) -> tuple[FindingAnswer, ...]:
    return tuple(FindingAnswer.of(one) for one in findings)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
