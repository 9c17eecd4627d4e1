"""How a version is trained on devices, for people: what its approvers sign for, and its card says."""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.message import DecodeError

from controller.errors import BadModel
from protos.documents import sha256
from protos.errors import DocumentError
from protos.manifest import Manifest, Role
from protos.train_step import METADATA_KEY, TrainStepSpec, read_spec

_SHOWN_NAMES: Final = 6


def spec_of(graph: bytes) -> TrainStepSpec:
    """What a train-step graph says of itself.

    Raises:
        BadModel: it says nothing, or nothing that can be read.
    """
    from onnx import ModelProto  # noqa: PLC0415 - commands that show no train step are quicker

    try:
        told = {one.key: one.value for one in ModelProto.FromString(graph).metadata_props}
        return read_spec(told[METADATA_KEY])
    except (DecodeError, DocumentError, KeyError) as error:
        raise BadModel("the train step does not say what it trains") from error


def described(spec: TrainStepSpec) -> Mapping[str, str]:
    """By key: parameters, loss, optimizer, and what else is not as always."""
    names = [one.name for one in spec.parameters]
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN_NAMES else ""
    found = {
        "parameters": ", ".join(names[:_SHOWN_NAMES]) + more,
        "numbers": str(numbers(spec)),
        "loss": spec.loss.value,
        "optimizer": spec.optimizer.value,
        "proximal": "yes" if spec.proximal else "",
        "weight_decay": f"{spec.weight_decay:g}" if spec.weight_decay else "",
        "clip_norm": "" if spec.clip_norm is None else f"{spec.clip_norm:g}",
        "classes": ", ".join(map(str, spec.classes[:_SHOWN_NAMES])),
    }
    return {key: value for key, value in found.items() if value}


def numbers(spec: TrainStepSpec) -> int:
    """How many numbers are trained."""
    return sum(math.prod(one.shape) for one in spec.parameters)


def sentences(manifest: Manifest, graph: bytes) -> Iterator[str]:
    """Where the version comes from, and what devices may do with it; ``graph`` is its train step.

    Raises:
        BadModel: the train step does not say what it trains.
    """
    lineage = manifest.lineage
    if lineage.training_run:
        rounds = "" if lineage.round is None else f", {lineage.round} rounds"
        yield f"trained on devices from {manifest.model}/{lineage.parent}: run {lineage.training_run}{rounds}"
    if Role.TRAIN_STEP in manifest.files:
        spec = spec_of(graph)
        held = ", held to the global parameters if asked (proximal)" if spec.proximal else ""
        yield (
            f"devices may train {numbers(spec):,} numbers of it "
            f"({described(spec)['parameters']}): {spec.loss.value} by {spec.optimizer.value}{held}"
        )


def objections(manifest: Manifest, graph: bytes) -> Iterator[str]:
    """Why ``graph`` is not the train step of the version, in plain words; empty bytes are none."""
    file = manifest.files.get(Role.TRAIN_STEP)
    if file is None:
        if graph:
            yield "a train step was shown, and the manifest names none"
        return
    if sha256(graph) != file.sha256:
        yield "its train step is another file than the manifest names"
        return
    try:
        spec = spec_of(graph)
    except BadModel as error:
        yield error.detail
        return
    if spec.model_sha256 != manifest.files[Role.MODEL].sha256:
        yield "its train step is for another model file"
