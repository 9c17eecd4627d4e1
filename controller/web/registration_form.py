"""Reads the multipart form with which a version is registered, part by part within its bounds."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from starlette.datastructures import FormData, UploadFile

from agent.monitor.reference import Policy
from controller.errors import InvalidInput, TooLarge
from controller.registry.author_text import AUTHOR_TEXT_BYTES, AuthorText, read_author_text
from controller.registry.bundle import Demands
from controller.registry.gates import AllOf, Gate, MetricAtLeast, default_gates
from controller.registry.npz_file import REFERENCE_DATA_BYTES
from controller.registry.onnx_file import MODEL_BYTES
from controller.registry.registration import Registration
from controller.registry.training import CLIP_NORM, Training
from protos.limits import KIB
from protos.manifest import Semantic
from protos.train_step import Loss, Optimizer

OPTIONS_BYTES: Final = 256 * KIB
FORM_BYTES: Final = MODEL_BYTES + REFERENCE_DATA_BYTES + AUTHOR_TEXT_BYTES + 2 * OPTIONS_BYTES
"""All parts at their largest, and what divides them."""

_PARTS: Final = {
    "model": MODEL_BYTES,
    "reference": REFERENCE_DATA_BYTES,
    "text": AUTHOR_TEXT_BYTES,
}

FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["model", "reference"],
                    "properties": {
                        "model": {
                            "type": "string",
                            "format": "binary",
                            "description": f"an ONNX file, {MODEL_BYTES} bytes at most",
                        },
                        "reference": {
                            "type": "string",
                            "format": "binary",
                            "description": "an .npz file with the data that the model is made for: "
                            f"an array per input, {REFERENCE_DATA_BYTES} bytes at most",
                        },
                        "text": {
                            "type": "string",
                            "format": "binary",
                            "description": "what the card says: a .toml file with its keys, or text",
                        },
                        "options": {
                            "type": "string",
                            "description": "a JSON object: semantics, demands, metrics_at_least, "
                            "policy, training, parent, training_run, round, git_commit; all optional. "
                            "`training` lets devices train the version: trainable (all, head, last:K, or "
                            "names of initializers), loss, optimizer, proximal, output, weight_decay, "
                            "clip_norm; all but `trainable` optional",
                        },
                    },
                }
            }
        },
    }
}
"""The form, for the API's description."""


class TrainingOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How devices may train the version; see ``controller.registry.training.Training``."""

    trainable: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
    loss: Loss | None = None
    optimizer: Optimizer = Optimizer.SGD
    proximal: bool = False
    output: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    weight_decay: float = 0.0
    clip_norm: float | None = CLIP_NORM

    @property
    def training(self) -> Training:
        """The same for a registration."""
        return Training(**msgspec.structs.asdict(self))


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is not a file. Every key is optional; ``Registration`` says what they mean."""

    semantics: Mapping[str, Semantic] = msgspec.field(default_factory=dict)
    demands: Demands = Demands()
    metrics_at_least: Mapping[str, float] = msgspec.field(default_factory=dict)
    policy: Policy | None = None
    training: TrainingOptions | None = None
    parent: Annotated[int, msgspec.Meta(ge=1)] | None = None
    training_run: Annotated[str, msgspec.Meta(max_length=256)] = ""
    round: Annotated[int, msgspec.Meta(ge=0)] | None = None
    git_commit: Annotated[str, msgspec.Meta(max_length=64)] = ""


def read_form(model: str, form: FormData) -> Registration:
    """What the form asks for. Blocks: the files are read.

    Raises:
        InvalidInput, TooLarge: a part is missing, unknown or not what it must be; names it.
    """
    unknown = sorted(set(form) - {*_PARTS, "options"})
    if unknown:
        raise InvalidInput(f"form: no part {unknown[0]!r} is known")
    files = {name: _file(form, name) for name in _PARTS if name in form}
    for name in ("model", "reference"):
        if name not in files:
            raise InvalidInput(f"form: the part {name!r} is missing")
    options = _options(form.get("options", "{}"))
    text = AuthorText()
    if "text" in files:
        text = read_author_text(files["text"][1], files["text"][0])
    return Registration(
        model=model,
        onnx=files["model"][1],
        reference=files["reference"][1],
        onnx_name=files["model"][0],
        reference_name=files["reference"][0],
        semantics=options.semantics,
        text=text,
        demands=options.demands,
        gates=_gates(options.metrics_at_least),
        policy=options.policy,
        training=options.training.training if options.training else None,
        parent=options.parent,
        training_run=options.training_run,
        round=options.round,
        git_commit=options.git_commit,
    )


def _gates(least: Mapping[str, float]) -> Gate:
    more = [MetricAtLeast(name, bound) for name, bound in sorted(least.items())]
    return AllOf((default_gates(), *more))


def _file(form: FormData, name: str) -> tuple[str, bytes]:
    part = form[name]
    if not isinstance(part, UploadFile):
        raise InvalidInput(f"form: the part {name!r} must be a file")
    limit = _PARTS[name]
    data = part.file.read(limit + 1)
    shown = part.filename or name
    if len(data) > limit:
        raise TooLarge(f"{shown}: more than {limit} bytes")
    return shown[:255], data


def _options(part: UploadFile | str) -> Options:
    if isinstance(part, UploadFile):
        raise InvalidInput("form: the part 'options' must be text, not a file")
    try:
        return msgspec.json.decode(part, type=Options)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"options: {error}") from error
