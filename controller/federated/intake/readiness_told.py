"""A device's ``Readiness``, read: what it says is checked as a stranger's."""

import re
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from controller.errors import InvalidInput
from controller.federated.readiness import MOST_MODELS, DeviceReadiness
from protos.limits import MODEL_NAME
from protos.v1 import federated_pb2

_MODEL: Final = re.compile(MODEL_NAME)
_CODE: Final = re.compile(r"[a-z0-9-]{0,64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MOST_EXAMPLES: Final = 2**53


def read_readiness(device: str, payload: bytes, now_ms: int) -> Sequence[DeviceReadiness]:
    """What the device says, by model.

    Raises:
        InvalidInput: it can't be read; names the field.
    """
    try:
        told = federated_pb2.Readiness.FromString(payload)
    except DecodeError as error:
        raise InvalidInput("readiness: it can't be read") from error
    if len(told.models) > MOST_MODELS:
        raise InvalidInput(f"readiness: {len(told.models)} models; {MOST_MODELS} at most")
    found = {one.model: _of_model(device, one, now_ms) for one in told.models}
    return [found[model] for model in sorted(found)]


def _of_model(device: str, told: federated_pb2.ModelReadiness, now_ms: int) -> DeviceReadiness:
    if not _MODEL.fullmatch(told.model):
        raise InvalidInput(f"readiness: model {told.model[:80]!r} is no name")
    if not 0 < told.version < 2**31 or not _SHA256.fullmatch(told.manifest_sha256):
        raise InvalidInput(f"readiness: {told.model}: it names no version")
    if not _CODE.fullmatch(told.reason):
        raise InvalidInput(f"readiness: {told.model}: reason {told.reason[:80]!r} is no code")
    return DeviceReadiness(
        device=device,
        model=told.model,
        version=told.version,
        manifest_sha256=told.manifest_sha256,
        eligible=told.eligible,
        reason="" if told.eligible else told.reason or "not-told",
        examples=min(told.examples, _MOST_EXAMPLES),
        held_out=min(told.held_out, _MOST_EXAMPLES),
        told_ms=now_ms,
    )
