"""The signed manifest of one model version: the TUF target that every other file hangs off.

Canonical JSON. Files are named by their SHA-256, so whatever carries them is untrusted transport.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from protos.documents import canonical, sha256
from protos.errors import DocumentError
from protos.limits import BLOB_BYTES, MANIFEST_BYTES, MODEL_NAME

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
MaybeSha256 = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?$")]
Name = Annotated[str, msgspec.Meta(pattern=f"^{MODEL_NAME}$")]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Length = Annotated[int, msgspec.Meta(ge=0, le=BLOB_BYTES)]


class Semantic(StrEnum):
    """What a tensor means: it decides how it is watched."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    IMAGE = "image"
    LABEL = "label"
    PROBABILITY = "probability"
    SCORE = "score"
    OPAQUE = "opaque"  # carried, not watched


class Role(StrEnum):
    """What a file of the bundle is for."""

    MODEL = "model"
    REFERENCE = "reference"  # agent.monitor.reference: bins, counts and calibrated thresholds
    GOLDEN = "golden"  # agent.inference.golden: inputs, outputs and tolerances
    CARD = "card"
    TRAIN_STEP = "train_step"
    MODEL_STEP = "model_step"  # protos.model_step: makes the model of the parent's; may be left out


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output. ``dtype`` is an Open Inference Protocol datatype; -1 is the batch axis.

    ``minimum`` and ``maximum`` are the range that the reference showed, in the tensor's own unit.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    semantic: Semantic
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = False


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A blob of the bundle."""

    sha256: Sha256
    length: Length


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a device must have. Empty ``arch`` is any."""

    runtime: str = "onnxruntime"
    minimum_runtime: str = ""
    opset: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    arch: tuple[str, ...] = ()


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """What the version may cost on a device: the self-test and the probation hold it to that."""

    latency_p99_seconds: float
    memory_bytes: int


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the version came from.

    Attributes:
        parent_model: SHA-256 of the model file that the bundle's ``MODEL_STEP`` is for.
        parent_train_step: SHA-256 of the train step that becomes the bundle's where it names the other
            model: ``protos.train_step.renamed``.
        data_profile: SHA-256 of the reference profile.
    """

    parent: int | None = None
    parent_model: MaybeSha256 = ""
    parent_train_step: MaybeSha256 = ""
    training_run: str = ""
    round: int | None = None
    data_profile: str = ""
    git_commit: str = ""
    registered_by: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable version of a model."""

    model: Name
    version: Positive
    release_counter: Positive
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    files: Mapping[Role, File]
    needs: Needs
    budgets: Budgets
    kind: str = "onnx"
    metrics: Mapping[str, float] = msgspec.field(default_factory=dict)
    lineage: Lineage = Lineage()
    minimum_agent: str = ""
    schema: int = 1

    @property
    def reference(self) -> str:
        """``digits/3``, as people write it."""
        return f"{self.model}/{self.version}"

    def encode(self) -> bytes:
        """The bytes that are hashed, signed for and shipped."""
        return canonical(self)

    @property
    def digest(self) -> str:
        """SHA-256 of ``encode()``."""
        return sha256(self.encode())

    @property
    def needed(self) -> Mapping[Role, File]:
        """The files that a device must have: not what only helps to get one of them."""
        return {role: file for role, file in self.files.items() if role is not Role.MODEL_STEP}


REQUIRED_FILES: Final = (Role.MODEL, Role.REFERENCE, Role.GOLDEN, Role.CARD)


_decoder = msgspec.json.Decoder(Manifest)  # no two threads may be the first to use it


def read_manifest(data: bytes) -> Manifest:
    """The manifest in ``data``.

    Raises:
        DocumentError: too large, malformed, or without a file that it must have; names the field.
    """
    if len(data) > MANIFEST_BYTES:
        raise DocumentError(
            "too-large", f"a manifest of {len(data)} bytes; {MANIFEST_BYTES} at most"
        )
    try:
        manifest = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError("malformed", f"manifest: {error}") from error
    missing = [role.value for role in REQUIRED_FILES if role not in manifest.files]
    if missing:
        raise DocumentError("malformed", f"manifest: no {', '.join(missing)} in `$.files`")
    return manifest


def target_path(model: str, version: int) -> str:
    """Where a version's manifest stands among the TUF targets."""
    return f"models/{model}/{version}.json"


def role_name(model: str) -> str:
    """The delegated TUF role whose keys are the model's approvers."""
    return f"models-{model}"


DIRECTOR_ROLE: Final = "director"
"""The delegation that names the keys directives are signed with. No metadata file bears this name."""

_REFERENCE: Final = re.compile(f"^({MODEL_NAME})/([1-9][0-9]{{0,8}})$")


def parse_reference(text: str) -> tuple[str, int]:
    """``digits/3`` as (model, version).

    Raises:
        DocumentError: it is not of that form.
    """
    match = _REFERENCE.match(text)
    if match is None:
        raise DocumentError("malformed", f"{text!r} is not MODEL/VERSION, such as digits/3")
    return match[1], int(match[2])
