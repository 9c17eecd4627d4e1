"""The version that a run begins with, as an app of Flower carries it: one JSON document.

Flower bundles texts only, and ten megabytes of them. What does not fit stands beside the bundle as
files, and people bring it to each machine. Either way a file counts only if the manifest names it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.federated.layout import Layout, layout_of
from agent.federated.step_file import StepFile, read_step
from controller.candidate.model import parameters_of
from controller.candidate.parameter_data import places
from controller.federated.flower_app.errors import AppDamaged
from protos.documents import sha256
from protos.errors import DocumentError
from protos.manifest import Manifest, Role, read_manifest

Float32s = NDArray[np.float32]
ROLES: Final = (Role.MODEL, Role.TRAIN_STEP)
FILES: Final[Mapping[Role, str]] = {Role.MODEL: "model.onnx", Role.TRAIN_STEP: "train_step.onnx"}
"""What they are called beside the bundle."""


class Document(msgspec.Struct, frozen=True):
    """What stands in the app: the manifest as it is signed for, and files by role."""

    manifest: bytes
    files: Mapping[Role, bytes]


@dataclass(frozen=True, slots=True)
class AppVersion:
    """A version with its model and its train step."""

    manifest: Manifest
    model: bytes
    train_step: bytes

    @property
    def step(self) -> StepFile:
        """What the train step says and does.

        Raises:
            StepRefused: it may not run on a device.
        """
        return read_step(self.train_step)

    @property
    def layout(self) -> Layout:
        """How its examples are packed. Raises ``NotCollecting``, ``StepRefused``."""
        step = self.step
        return layout_of(self.manifest, step.spec, step.classes)

    def parameters(self) -> Mapping[str, Float32s]:
        """What is trained, as it is in the model: float32, in the order of the train step.

        Raises:
            NoCandidate: the model does not have them as raw data.
        """
        shapes = {one.name: one.shape for one in self.step.spec.parameters}
        return parameters_of(self.model, shapes)

    def moved(self, parameters: Mapping[str, Float32s]) -> bytes:
        """The model file with these parameters instead. Raises ``NoCandidate``."""
        model = bytearray(self.model)
        for name, place in places(self.model, parameters.keys()).items():
            data = np.ascontiguousarray(parameters[name], "<f4").tobytes()
            model[place.offset : place.offset + len(data)] = data
        return bytes(model)


def written(manifest: bytes, files: Mapping[Role, bytes]) -> bytes:
    """The document; without files, they stand beside the bundle."""
    return msgspec.json.encode(Document(manifest, files))


def read_version(data: bytes, beside: Callable[[str], bytes]) -> AppVersion:
    """The version in the document ``data``; ``beside`` reads a file that stands outside.

    Raises:
        AppDamaged: it can't be read, or a file is not the one that the manifest names.
    """
    try:
        document = msgspec.json.decode(data, type=Document)
        manifest = read_manifest(document.manifest)
    except (msgspec.DecodeError, DocumentError, UnicodeError) as error:
        raise AppDamaged(f"version.json: {error}") from error
    found = {}
    for role in ROLES:
        listed = manifest.files.get(role)
        if listed is None:
            raise AppDamaged(f"{manifest.reference} has no {role}")
        content = document.files.get(role)
        found[role] = beside(FILES[role]) if content is None else content
        if sha256(found[role]) != listed.sha256:
            raise AppDamaged(f"{FILES[role]} is not that of {manifest.reference}")
    return AppVersion(manifest, found[Role.MODEL], found[Role.TRAIN_STEP])
