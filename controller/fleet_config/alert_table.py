"""The table of a fleet's file that says what people want to know of."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from controller.errors import BadExpression
from controller.rollout.gate.expression_parser import parse
from controller.rollout.policy import Name
from controller.toml_file.table import Lasting, Table
from protos.limits import MODEL_NAME


class Severity(StrEnum):
    """How much an alert matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


ALERT_GROUPS: Final = ("fleet",)
"""Of which devices an alert can ask."""


def _decidable(expression: str) -> str:
    try:
        return str(parse(expression, ALERT_GROUPS))
    except BadExpression as error:
        raise ValueError(error.detail) from error


AlertText = Annotated[str, AfterValidator(_decidable)]


class AlertTable(Table):
    """Something that people want to know of.

    `muster fleet show` says whether it holds; `/metrics` has it as `muster_fleet_alert`, from where
    Prometheus tells people.
    """

    name: Annotated[Name, Field(examples=["errors"])]
    """What it is called."""

    model: Annotated[str, Field(pattern=f"^{MODEL_NAME}$", examples=["digits"])]
    """Of which of the file's models."""

    when: Annotated[
        AlertText,
        Field(examples=["fleet.error_rate > 0.05 and fleet.devices >= 10"]),
    ]
    """What must hold, over what all of the model's devices in the fleet have told together. As in
    `holds`, with `fleet.` before the names."""

    over: Annotated[Lasting, Field(ge=60, le=30 * 86_400, examples=["30m"])] = 3600.0
    """Of what they told in so long a time until now; their windows are as long as the model's
    monitor says."""

    severity: Annotated[Severity, Field(strict=False)] = Severity.WARNING
    """How much it matters."""
