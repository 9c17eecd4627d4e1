"""What a model's data look like now, over the fleet and on each device."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import Field

from agent.inference.latency import quantile
from agent.inference.traffic import TrafficCounts
from agent.monitor.finding import Finding
from controller.monitor.actions import (
    DeviceRow,
    DriftReport,
    ProfileReport,
    drift_report,
    profile_report,
)
from controller.monitor.summary import SeriesSummary
from controller.web.access import Services, Viewer
from protos.limits import LATENCY_BUCKETS_SECONDS

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
    elsewhere: Annotated[
        Mapping[int, int], Field(description="by other versions, how many devices run them")
    ]

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
            report.elsewhere,
        )


@dataclass(frozen=True, slots=True)
class TrafficAnswer:
    """Requests, and how long their answers took on the device, transport not included."""

    requests: int
    failed: Annotated[int, Field(description="of these, the runtime failed")]
    refused: Annotated[int, Field(description="did not fit the signature; not among requests")]
    p50_seconds: float | None
    p99_seconds: float | None
    latency_bounds_seconds: tuple[float, ...]
    latency_counts: Annotated[tuple[int, ...], Field(description="one bucket more than bounds")]

    @classmethod
    def of(cls, traffic: TrafficCounts) -> Self:
        """As the devices counted it."""
        return cls(
            traffic.requests,
            traffic.failed,
            traffic.refused,
            quantile(traffic.latency_counts, 0.5),
            traffic.p99_seconds,
            LATENCY_BUCKETS_SECONDS,
            traffic.latency_counts,
        )


@dataclass(frozen=True, slots=True)
class ProfileAnswer:
    """How a version's data look, over the fleet or on one device, beside its reference's."""

    model: str
    version: int
    profile_sha256: str
    devices: Annotated[tuple[str, ...], Field(description="whose newest windows are merged")]
    rows: int
    windows: int
    first_started_ms: Annotated[int, Field(description="Unix milliseconds")]
    last_ended_ms: Annotated[int, Field(description="Unix milliseconds")]
    traffic: TrafficAnswer
    series: tuple[SeriesSummary, ...]

    @classmethod
    def of(cls, report: ProfileReport) -> Self:
        """As the monitor has it."""
        return cls(
            report.model,
            report.version,
            report.profile_sha256,
            report.devices,
            report.rows,
            report.windows,
            report.first_started_ms,
            report.last_ended_ms,
            TrafficAnswer.of(report.traffic),
            report.series,
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


@router.get("/drift/{model}/profile")
def show_profile(
    services: Services,
    _: Viewer,
    model: str,
    version: Annotated[
        int | None, Query(ge=1, description="the newest that devices told of")
    ] = None,
    device: Annotated[str | None, Query(description="only this one's")] = None,
    since_ms: Annotated[int, Query(ge=0, description="Unix milliseconds")] = 0,
) -> ProfileAnswer:
    """What the data look like: every series' figures and shares, now and in the reference."""
    report = profile_report(
        services.store, services.blobs, model, version=version, device=device, since_ms=since_ms
    )
    return ProfileAnswer.of(report)


def _findings(findings: Iterable[Finding]) -> tuple[FindingAnswer, ...]:
    return tuple(FindingAnswer.of(one) for one in findings)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
