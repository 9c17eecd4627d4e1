"""ONNX Runtime, set up to be light: one thread a request, no arena, no spinning, no chatter.

onnxruntime is imported when the first model is loaded or its version is asked for.
"""

import contextlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

from numpy.typing import NDArray

from agent.errors import InferenceFailed, ModelLoadFailed
from agent.inference.datatypes import BY_ONNX
from agent.runtimes.opset import highest_opset
from agent.runtimes.runtime import Tensors
from protos.documents import sha256
from protos.manifest import Manifest, Tensor

FATAL: Final = 4  # of onnxruntime's severities: nothing below goes to stderr


def library() -> ModuleType:
    """The library, imported by who asks first."""
    import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415 - it weighs 40 MB

    module: ModuleType = onnxruntime
    return module


def library_errors(ort: ModuleType) -> tuple[type[Exception], ...]:
    """All that onnxruntime raises; its own errors have no base of their own."""
    state = ort.capi.onnxruntime_pybind11_state
    own = [
        one
        for one in vars(state).values()
        if isinstance(one, type) and issubclass(one, Exception) and one.__module__ == state.__name__
    ]
    return (*own, RuntimeError, ValueError, TypeError, MemoryError, UnicodeError)


class OnnxModel:
    """A session of onnxruntime."""

    def __init__(
        self, session: Any, digest: str, reference: str, errors: tuple[type[Exception], ...]
    ) -> None:
        self._run: Callable[..., list[NDArray[Any]]] | None = session.run
        self._reference = reference
        self._errors = errors
        self.sha256 = digest

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> list[NDArray[Any]]:
        """The named outputs, in that order.

        Raises:
            InferenceFailed: the runtime failed, or the model is closed.
        """
        run = self._run
        if run is None:
            raise InferenceFailed(f"{self._reference}: the model is closed")
        try:
            return run(outputs, inputs)
        except self._errors as error:
            raise InferenceFailed(f"{self._reference}: {error}") from error

    def close(self) -> None:
        """Frees the session. No ``run`` may be under way."""
        self._run = None


class OnnxRuntime:
    """Loads models of kind ``onnx``.

    Args:
        threads: with which one request is computed. More is rarely faster for the small models of
            a device, and takes the cores from the requests beside it.
    """

    name = "onnxruntime"

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._opset = 0

    @property
    def version(self) -> str:
        """The library's own version."""
        return str(library().__version__)

    def highest_opset(self) -> int:
        """Of ONNX's own operators; found out once. 0 if it can't be known now."""
        if not self._opset:
            ort = library()
            ort.set_default_logger_severity(FATAL)
            errors = library_errors(ort)

            def takes(model: bytes) -> bool:
                try:
                    ort.InferenceSession(
                        model, self._options(ort), providers=["CPUExecutionProvider"]
                    )
                except errors as error:
                    if "opset" not in str(error).lower():
                        raise  # no memory, say: that is no answer
                    return False
                return True

            with contextlib.suppress(*errors):
                self._opset = highest_opset(takes)
        return self._opset

    def load(self, model: bytes, manifest: Manifest) -> OnnxModel:
        """A session made of these very bytes.

        Raises:
            ModelLoadFailed: no model that onnxruntime can run, or its inputs and outputs are not
                the manifest's; says all that differs.
        """
        ort = library()
        ort.set_default_logger_severity(FATAL)
        errors = library_errors(ort)
        try:
            session = ort.InferenceSession(
                model, self._options(ort), providers=["CPUExecutionProvider"]
            )
        except errors as error:
            raise ModelLoadFailed(f"{manifest.reference}: {error}") from error
        objections = [
            *_differences("input", manifest.inputs, session.get_inputs(), whole=True),
            *_differences("output", manifest.outputs, session.get_outputs(), whole=False),
        ]
        if objections:
            raise ModelLoadFailed(
                f"{manifest.reference}: the model is not what the manifest says: "
                + "; ".join(objections)
            )
        return OnnxModel(session, sha256(model), manifest.reference, errors)

    def _options(self, ort: ModuleType) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = FATAL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # The arena and the patterns keep what the largest request ever needed.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


def _differences(
    what: str, wanted: Sequence[Tensor], given: Sequence[Any], *, whole: bool
) -> list[str]:
    """How the session's ``given`` differ from the manifest's; ``whole``: it may have no others."""
    found = {node.name: node for node in given}
    objections = [f"{what} {one.name!r} is missing" for one in wanted if one.name not in found]
    if whole:
        names = {one.name for one in wanted}
        objections += [
            f"{what} {name!r} is not in the manifest" for name in found if name not in names
        ]
    for one in wanted:
        if one.name in found:
            objections += _tensor_differences(what, one, found[one.name])
    return objections


def _tensor_differences(what: str, wanted: Tensor, given: Any) -> list[str]:
    objections = []
    datatype = BY_ONNX.get(given.type, given.type)
    if datatype != wanted.dtype:
        objections.append(f"{what} {wanted.name!r} is {datatype}, not {wanted.dtype}")
    shape = list(given.shape or ())
    # onnxruntime gives no axes for an unknown rank; an axis of unknown length has a name or None.
    if shape and (
        len(shape) != len(wanted.shape)
        or any(
            isinstance(has, int) and has >= 0 and has != wants
            for has, wants in zip(shape, wanted.shape, strict=True)
        )
    ):
        objections.append(f"{what} {wanted.name!r} has the shape {shape}, not {list(wanted.shape)}")
    return objections
