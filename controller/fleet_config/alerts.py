"""Whether what people want to know of holds: an expression over what a fleet's devices told. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from controller.fleet_config.alert_table import ALERT_GROUPS
from controller.fleet_config.fleet import Alert
from controller.rollout.gate.evidence import Sample
from controller.rollout.gate.expression import holds
from controller.rollout.gate.expression_parser import parse
from controller.rollout.gate.measure import MINIMUM_INFERENCES, measured, shown
from controller.rollout.policy import Metric


class AlertState(StrEnum):
    """Three-valued: too little was told is no answer."""

    FIRING = "firing"
    QUIET = "quiet"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class AlertResult:
    """One alert, and what it was judged by.

    Attributes:
        values: by the names of its expression, those that were told.
    """

    alert: Alert
    state: AlertState
    values: Mapping[str, float]


def judged(alert: Alert, told: Sequence[Sample]) -> AlertResult:
    """Whether it holds over what devices ``told``: on average, as gates see it."""
    values = {
        "fleet.devices": float(len(told)),
        "fleet.inferences": float(sum(one.inferences for one in told)),
    }
    for metric in Metric:
        found = measured(told, metric, MINIMUM_INFERENCES)
        if len(found):
            values[f"fleet.{metric.value.replace('-', '_')}"] = found.average
    held = holds(parse(alert.when, ALERT_GROUPS), values)
    state = {True: AlertState.FIRING, False: AlertState.QUIET, None: AlertState.UNDECIDED}[held]
    asked = {name: value for name, value in values.items() if name in alert.when}
    return AlertResult(alert, state, asked)


def alert_line(result: AlertResult) -> str:
    """One sentence with the numbers."""
    alert = result.alert
    said = ", ".join(f"{name} {_shown(name, value)}" for name, value in result.values.items())
    told = said or "devices have told too little"
    return f"alert {alert.name} ({alert.severity}) of {alert.model} is {result.state}: {told}"


def _shown(name: str, value: float) -> str:
    quantity = name.partition(".")[2].replace("_", "-")
    return shown(Metric(quantity), value) if quantity in set(Metric) else f"{value:,.0f}"
