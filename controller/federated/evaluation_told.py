"""A merged evaluation among the metrics of a phase: what is shown of it, and all of its sums."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from agent.federated.evaluation import Evaluation

SUMS: Final = "sums/"
"""What begins so is for programs: ``sums/confusion/3``."""


_OF_DEVICES: Final = frozenset(one.name.replace("_", "-") for one in fields(Evaluation)) - {
    "examples"
}


def metrics_of(evaluation: Evaluation) -> Mapping[str, float]:
    """What is told of it; nothing if no device has told anything."""
    if not evaluation.examples:
        return {}
    shown = {
        "examples": float(evaluation.examples),
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
    }
    sums: dict[str, float] = {}
    for one in fields(evaluation):
        value = getattr(evaluation, one.name)
        if isinstance(value, tuple):
            sums |= {f"{SUMS}{one.name}/{at}": float(count) for at, count in enumerate(value)}
        else:
            sums[SUMS + one.name] = float(value)
    return {**{key: value for key, value in shown.items() if value is not None}, **sums}


def evaluation_of(metrics: Mapping[str, float]) -> Evaluation:
    """What ``metrics_of`` was told of; an empty one of metrics of another kind."""
    found: dict[str, Any] = {}
    for one in fields(Evaluation):
        name = SUMS + one.name
        if isinstance(one.default, tuple):
            many = sum(key.startswith(f"{name}/") for key in metrics)
            found[one.name] = tuple(int(metrics.get(f"{name}/{at}", 0)) for at in range(many))
        else:
            value = metrics.get(name, 0.0)
            found[one.name] = int(value) if isinstance(one.default, int) else value
    return Evaluation(**found)


def shown(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Those that are for people: no sums, nor means of them over devices that an app has asked."""
    return {
        key: value
        for key, value in metrics.items()
        if not key.startswith(SUMS) and key not in _OF_DEVICES
    }
