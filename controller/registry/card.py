"""A version's model card: CycloneDX 1.6, so that it is also the model's entry in a bill of materials.

https://cyclonedx.org/docs/1.6/json/ (a component of type ``machine-learning-model``). What can be
measured stands here by measurement; what the model is for and whom it may harm is its author's text.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from controller.registry.author_text import AuthorText, Risk
from controller.registry.onnx_file import OnnxFile
from controller.registry.origin import Origin
from controller.registry.signature import Signature
from controller.registry.training_text import described as trained
from protos.documents import sha256
from protos.manifest import Tensor
from protos.train_step import TrainStepSpec

_SAME_ROWS: Final = " on the same rows"
_TRAINING: Final = "muster:training:"

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says that was not written by a person. ``registered_at`` is Unix seconds.

    Attributes:
        parent: the version it is compared with, "digits/2"; empty if there is none.
        parent_metrics: of the parent, on the same rows.
        training: how devices may train it; None if they may not.
        origin: of what devices have trained, and where its metrics were measured.
    """

    model: str
    version: int
    registered_at: float
    onnx: OnnxFile
    model_sha256: str
    reference_rows: int
    signature: Signature
    metrics: Mapping[str, float]
    lineage: Mapping[str, str]
    training: TrainStepSpec | None = None
    parent: str = ""
    parent_metrics: Mapping[str, float] = field(default_factory=dict)
    origin: Origin | None = None


def card(facts: CardFacts, text: AuthorText) -> bytes:
    """The card as JSON; the same facts and text give the same bytes."""
    reference = f"{facts.model}/{facts.version}"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{_identity(reference, facts.model_sha256)}",
        "version": 1,
        "metadata": {
            "timestamp": _timestamp(facts.registered_at),
            "tools": {"components": [{"type": "application", "name": "muster"}]},
            "component": _component(reference, facts, text),
        },
    }
    return _encode(document)


def _identity(reference: str, model_sha256: str) -> uuid.UUID:
    """An RFC 9562 version 8 UUID that names this version and its file."""
    return uuid.UUID(sha256(f"{reference} {model_sha256}".encode())[:32], version=5)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _component(reference: str, facts: CardFacts, text: AuthorText) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": reference,
        "name": facts.model,
        "version": str(facts.version),
        "hashes": [{"alg": "SHA-256", "content": facts.model_sha256}],
        "modelCard": _model_card(facts, text),
        "properties": _properties(facts),
    }
    if text.description:
        component["description"] = text.description
    if text.authors:
        component["authors"] = [{"name": name} for name in text.authors]
    if text.license:
        component["licenses"] = [{"license": {"name": text.license}}]
    return component


def _model_card(facts: CardFacts, text: AuthorText) -> dict[str, Any]:
    signature = facts.signature
    parameters: dict[str, Any] = {
        "modelArchitecture": ", ".join(facts.onnx.operators),
        "datasets": [
            {
                "type": "dataset",
                "name": facts.origin.data if facts.origin else text.data or "reference data",
                "description": f"{facts.reference_rows} rows, on which the metrics were measured",
            }
        ],
        "inputs": [{"format": described(one)} for one in signature.inputs],
        "outputs": [{"format": described(one)} for one in signature.outputs],
    }
    if signature.task:
        parameters["task"] = signature.task
    found: dict[str, Any] = {"modelParameters": parameters}
    if facts.metrics:
        found["quantitativeAnalysis"] = {"performanceMetrics": list(_performance(facts))}
    if considerations := _considerations(text):
        found["considerations"] = considerations
    return found


def _performance(facts: CardFacts) -> Iterator[dict[str, str]]:
    """The version's metrics; then its parent's on the same rows, which are called a slice."""
    for name, value in sorted(facts.metrics.items()):
        yield {"type": name, "value": f"{value:.6g}"}
    for name, value in sorted(facts.parent_metrics.items()):
        yield {"type": name, "value": f"{value:.6g}", "slice": facts.parent + _SAME_ROWS}


def _considerations(text: AuthorText) -> dict[str, Any]:
    risks = [
        {"name": one.name, "mitigationStrategy": one.mitigation}
        if one.mitigation
        else {"name": one.name}
        for one in text.ethical_considerations
    ]
    lists: Mapping[str, Sequence[Any]] = {
        "users": text.users,
        "useCases": text.use_cases,
        "technicalLimitations": text.limitations,
        "performanceTradeoffs": text.tradeoffs,
        "ethicalConsiderations": risks,
    }
    return {name: list(values) for name, values in lists.items() if values}


def _properties(facts: CardFacts) -> list[dict[str, str]]:
    onnx = facts.onnx
    found = {
        "muster:opset": str(onnx.opset),
        "muster:ir_version": str(onnx.ir_version),
        "muster:parameters": str(onnx.parameters),
        "muster:producer": onnx.producer,
        **{f"muster:lineage:{name}": value for name, value in facts.lineage.items()},
    }
    if facts.origin is not None:
        found |= {f"muster:federated:{name}": one for name, one in facts.origin.facts.items()}
    if facts.training is not None:
        found |= {f"{_TRAINING}{name}": one for name, one in trained(facts.training).items()}
    return [{"name": name, "value": value} for name, value in sorted(found.items()) if value]


def described(tensor: Tensor) -> str:
    """A tensor in a line: "image: FP32 [N, 8, 8], image, 0 to 1"."""
    axes = ", ".join("N" if axis < 0 else str(axis) for axis in tensor.shape)
    line = f"{tensor.name}: {tensor.dtype} [{axes}], {tensor.semantic.value}"
    if tensor.minimum is not None and tensor.maximum is not None:
        line += f", {tensor.minimum:.6g} to {tensor.maximum:.6g}"
    return line + (", may be missing" if tensor.nullable else "")


def markdown(document: bytes) -> str:
    """A card as a page for people: what was measured, then what its author wrote."""
    component = msgspec.json.decode(document)["metadata"]["component"]
    model_card = component["modelCard"]
    parameters = model_card["modelParameters"]
    metrics = model_card.get("quantitativeAnalysis", {}).get("performanceMetrics", [])
    lines = [f"# {component['name']}/{component['version']}", ""]
    if "description" in component:
        lines += [component["description"], ""]
    lines += [f"Task: {parameters.get('task', 'not told')}", ""]
    lines += _section("Inputs", [one["format"] for one in parameters["inputs"]])
    lines += _section("Outputs", [one["format"] for one in parameters["outputs"]])
    lines += _section("Metrics", [_measured(one) for one in metrics])
    lines += _section(
        "Data", [f"{one['name']}: {one['description']}" for one in parameters["datasets"]]
    )
    for name, values in model_card.get("considerations", {}).items():
        lines += _section(_TITLES[name], [_spoken(value) for value in values])
    facts = [
        f"{one['name'].removeprefix('muster:')}: {one['value']}" for one in component["properties"]
    ]
    lines += _section("File", [f"SHA-256: {component['hashes'][0]['content']}", *facts])
    return "\n".join(lines).rstrip() + "\n"


def _measured(metric: Mapping[str, str]) -> str:
    whose = f" ({metric['slice']})" if "slice" in metric else ""
    return f"{metric['type']}: {metric['value']}{whose}"


def training_told(document: bytes) -> Mapping[str, str]:
    """How devices may train the version, as ``training_text.described`` has it; empty if they may not."""
    properties = msgspec.json.decode(document)["metadata"]["component"].get("properties", [])
    return {
        one["name"].removeprefix(_TRAINING): one["value"]
        for one in properties
        if one["name"].startswith(_TRAINING)
    }


def parent_metrics(document: bytes) -> Mapping[str, float]:
    """What the version's parent had on the same rows, by metric; empty if it was not compared."""
    component = msgspec.json.decode(document)["metadata"]["component"]
    analysis = component["modelCard"].get("quantitativeAnalysis", {})
    return {
        one["type"]: float(one["value"])
        for one in analysis.get("performanceMetrics", [])
        if one.get("slice", "").endswith(_SAME_ROWS)
    }


def author_text(document: bytes) -> AuthorText:
    """What an author wrote into a card, to be said of the version that follows, too."""
    component = msgspec.json.decode(document)["metadata"]["component"]
    said = component["modelCard"].get("considerations", {})
    licenses = component.get("licenses", [])
    return AuthorText(
        description=component.get("description", ""),
        authors=tuple(one["name"] for one in component.get("authors", [])),
        license=licenses[0]["license"]["name"] if licenses else "",
        users=tuple(said.get("users", ())),
        use_cases=tuple(said.get("useCases", ())),
        limitations=tuple(said.get("technicalLimitations", ())),
        tradeoffs=tuple(said.get("performanceTradeoffs", ())),
        ethical_considerations=tuple(
            Risk(name=one["name"], mitigation=one.get("mitigationStrategy", ""))
            for one in said.get("ethicalConsiderations", ())
        ),
    )


_TITLES = {
    "users": "Users",
    "useCases": "Use cases",
    "technicalLimitations": "Technical limitations",
    "performanceTradeoffs": "Performance trade-offs",
    "ethicalConsiderations": "Ethical considerations",
}


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"* {line}" for line in lines), ""] if lines else []


def _spoken(value: str | Mapping[str, str]) -> str:
    if isinstance(value, str):
        return value
    return ": ".join(value[key] for key in ("name", "mitigationStrategy") if key in value)
