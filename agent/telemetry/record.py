"""What the agent tells, as serialised ``muster.v1.Record``s without their sequence."""

from collections.abc import Mapping
from typing import Final, Literal

from protos.v1 import common_pb2, telemetry_pb2

Severity = Literal["info", "warning", "error"]

_TEXT: Final = 2_000  # characters; the controller cuts what is longer


def report_record(envelope: bytes, recorded_ms: int) -> bytes:
    """A signed report: a serialised ``muster.v1.Envelope`` of a ``protos.documents.Report``."""
    sealed = common_pb2.Envelope.FromString(envelope)
    return telemetry_pb2.Record(recorded_ms=recorded_ms, report=sealed).SerializeToString()


def event_record(
    name: str,
    severity: Severity,
    recorded_ms: int,
    *,
    model: str = "",
    version: int = 0,
    code: str = "",
    detail: str = "",
    fields: Mapping[str, str] | None = None,
) -> bytes:
    """Something that happened: "install.committed". Long texts are cut."""
    event = telemetry_pb2.Event(
        name=name,
        severity=severity,
        model=model,
        version=version,
        code=code,
        detail=detail[:_TEXT],
        fields={key: value[:_TEXT] for key, value in (fields or {}).items()},
    )
    return telemetry_pb2.Record(recorded_ms=recorded_ms, event=event).SerializeToString()


def window_record(window: telemetry_pb2.Window, recorded_ms: int) -> bytes:
    """A closed window."""
    return telemetry_pb2.Record(recorded_ms=recorded_ms, window=window).SerializeToString()


def resources_record(resources: telemetry_pb2.Resources, recorded_ms: int) -> bytes:
    """A reading of what the agent uses."""
    return telemetry_pb2.Record(recorded_ms=recorded_ms, resources=resources).SerializeToString()
