"""Parameters out of a model file, and into it: they stand there as bytes, one range each."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from controller.train_step.errors import BadParameters
from controller.train_step.graph import initializers

Float32s = NDArray[np.float32]
Parameters = Mapping[str, Float32s]
"""Arrays by the name of their initializer."""


def parameters_of(model: bytes, names: Iterable[str]) -> dict[str, Float32s]:
    """Copies of the float32 initializers, in that order.

    Raises:
        BadParameters: the model has none of that name, or it is no float32.
    """
    tensors = initializers(ModelProto.FromString(model).graph)
    return {name: numpy_helper.to_array(_float32(tensors, name)).copy() for name in names}


def with_parameters(model: bytes, arrays: Parameters) -> bytes:
    """The model with those initializers replaced: in a canonical one, just their ranges of bytes.

    Raises:
        BadParameters: of another name, shape or type than the model's, or not finite; names it.
    """
    whole = ModelProto.FromString(model)
    tensors = initializers(whole.graph)
    for name, array in arrays.items():
        tensor = _float32(tensors, name)
        if array.dtype != np.float32 or list(array.shape) != list(tensor.dims):
            shape = list(tensor.dims)
            raise BadParameters(
                f"{name!r} is {array.dtype} {list(array.shape)}, not float32 {shape}"
            )
        if not np.isfinite(array).all():
            raise BadParameters(f"{name!r} has values that are not finite")
        tensor.ClearField("float_data")
        tensor.raw_data = np.ascontiguousarray(array, "<f4").tobytes()
    return bytes(whole.SerializeToString(deterministic=True))


def _float32(tensors: Mapping[str, TensorProto], name: str) -> TensorProto:
    tensor = tensors.get(name)
    if tensor is None:
        raise BadParameters(f"the model has no initializer {name!r}")
    if tensor.data_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.data_type)
        raise BadParameters(f"{name!r} is {kind}, not FLOAT")
    return tensor
