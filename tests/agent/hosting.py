"""Models in memory for tests: real runtime, real slots, blobs in a dictionary."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from agent.inference.actions import Deployments
from agent.inference.golden import Golden, encode
from agent.install.record import Deployed
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.runtime import Tensors
from protos.documents import sha256
from protos.manifest import Manifest, Role
from tests.agent.onnx_models import (
    constant_manifest,
    constant_model,
    identity_manifest,
    identity_model,
    linear_golden,
    linear_manifest,
    linear_model,
)


class Seen:
    """Keeps what it is shown; fails on every request if it is told to."""

    def __init__(self, reference: bytes) -> None:
        self.reference = reference
        self.requests: list[tuple[Tensors, Tensors]] = []
        self.broken = False
        self._lock = threading.Lock()

    def observe(self, inputs: Tensors, outputs: Tensors) -> None:
        if self.broken:
            raise ValueError("broken on purpose")
        with self._lock:
            self.requests.append((inputs, outputs))


class Host:
    """Deployments, and the blobs that they are made of."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.deployments: Deployments[Seen, bytes] = Deployments(
            {"onnxruntime": OnnxRuntime()}, self.blobs.__getitem__, self._reference, Seen
        )

    @staticmethod
    def _reference(data: bytes) -> bytes:
        return data

    def keep(self, *files: bytes) -> None:
        self.blobs |= {sha256(data): data for data in files}

    async def prepare(self, manifest: Manifest) -> None:
        await self.deployments.prepare(deployed(manifest), manifest)

    async def run(self, manifest: Manifest, slot: str = "champion") -> None:
        await self.prepare(manifest)
        self.deployments.activate(manifest.model, slot)

    def linear(self, version: int = 1, scale: float = 1.0, **more: Any) -> Manifest:
        """``linear``: ``x`` of 4 features to ``scores`` and ``label``."""
        model, golden = linear_model(scale=scale), encode(linear_golden(scale=scale))
        self.keep(model, golden, b"")
        return linear_manifest(model, scale=scale, version=version, **more)

    def constant(self, version: int, **more: Any) -> Manifest:
        """``constant``: every element of ``y`` is the version's number."""
        model = constant_model(float(version))
        ones = np.ones((2, 4), dtype=np.float32)
        self.keep(model, encode(Golden({"x": ones}, {"y": ones * version}, {})), b"")
        return constant_manifest(model, version, **more)

    def identity(self, dtype: str, example: NDArray[Any], **more: Any) -> Manifest:
        """``identity``: ``y`` is ``x``, both of two variable axes."""
        model = identity_model(_ONNX[dtype])
        golden = encode(Golden({"x": example}, {"y": example}, {}))
        self.keep(model, golden, b"")
        return identity_manifest(model, dtype, golden=golden, **more)


_ONNX: Mapping[str, int] = {
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT64": TensorProto.UINT64,
    "BYTES": TensorProto.STRING,
}


def deployed(manifest: Manifest) -> Deployed:
    return Deployed(
        model=manifest.model,
        version=manifest.version,
        manifest_sha256=manifest.digest,
        model_sha256=manifest.files[Role.MODEL].sha256,
        release_counter=manifest.release_counter,
        approvals=2,
    )
