"""What Prometheus reads of a device: its text format, version 0.0.4."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.inference.actions import Deployments
from agent.inference.traffic import TrafficCounts

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
COUNTER, GAUGE = "counter", "gauge"


@dataclass(frozen=True, slots=True)
class Family:
    """Values of one name.

    Attributes:
        kind: ``COUNTER``, which only grows until the agent is started anew, or ``GAUGE``.
        labels: their names; each sample has as many values of them, and its own value.
    """

    name: str
    kind: str
    text: str
    labels: tuple[str, ...] = ()
    samples: Sequence[tuple[tuple[str, ...], float]] = ()


Measured = Callable[[], Sequence[Family]]


def nothing() -> Sequence[Family]:
    """Of a device that does nothing but answer."""
    return ()


def exposition(families: Iterable[Family]) -> bytes:
    """The page."""
    lines: list[str] = []
    for one in families:
        lines += [f"# HELP {one.name} {one.text}", f"# TYPE {one.name} {one.kind}"]
        for values, value in one.samples:
            labels = ",".join(
                f'{name}="{_escaped(of)}"' for name, of in zip(one.labels, values, strict=True)
            )
            lines.append(
                f"{one.name}{{{labels}}} {value:.17g}" if labels else f"{one.name} {value:.17g}"
            )
    return "".join(f"{line}\n" for line in lines).encode()


def of_inference(hosting: Deployments[Any, Any]) -> list[Family]:
    """Requests, since each version last began to answer."""
    found: dict[tuple[str, ...], TrafficCounts] = {
        (one.model, str(one.version)): one.since_activation() for one in hosting.watched()
    }

    def counter(name: str, text: str, values: dict[tuple[str, ...], float]) -> Family:
        return Family(name, COUNTER, text, ("model", "version"), sorted(values.items()))

    return [
        counter(
            "muster_agent_requests_total",
            "Requests that fitted the model.",
            {key: one.requests for key, one in found.items()},
        ),
        counter(
            "muster_agent_failed_total",
            "Requests that the runtime failed to answer, of muster_agent_requests_total.",
            {key: one.failed for key, one in found.items()},
        ),
        counter(
            "muster_agent_refused_total",
            "Requests that did not fit the model.",
            {key: one.refused for key, one in found.items()},
        ),
        counter(
            "muster_agent_inference_seconds_total",
            "Seconds that answers took.",
            {key: one.latency_sum_seconds for key, one in found.items()},
        ),
    ]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
