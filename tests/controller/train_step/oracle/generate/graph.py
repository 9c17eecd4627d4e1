"""An ONNX graph run by PyTorch, so that the gradient of every constant is known by its name.

Exporters fold, transpose and rename what a model is made of: after them there is no other way from
PyTorch's gradients to those of a file's initializers.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import onnx
import torch  # type: ignore[import-not-found]
from onnx import helper, numpy_helper
from torch.nn import functional  # type: ignore[import-not-found]

Attributes = Mapping[str, Any]


def run(model: onnx.ModelProto, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The first output; and every float that follows of constants alone, to ask for its gradient.

    All floats are float64.
    """
    values: dict[str, Any] = {"": None}
    fixed: dict[str, Any] = {}
    for initializer in model.graph.initializer:
        values[initializer.name] = _tensor(initializer)
        _keep(initializer.name, values[initializer.name], fixed)
    constant = {"", *values}
    for name, given in inputs.items():
        values[name] = given.double() if given.is_floating_point() else given
    for node in model.graph.node:
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        out = _operator(node)(attributes, *[values[name] for name in node.input])
        outs = out if isinstance(out, tuple) else (out,)
        values |= dict(zip(node.output, outs, strict=False))
        if constant.issuperset(node.input):
            constant.update(node.output)
            for name in node.output:
                _keep(name, values[name], fixed)
    return values[model.graph.output[0].name], fixed


def _operator(node: onnx.NodeProto) -> Callable[..., Any]:
    if node.op_type not in OPERATORS:
        raise NotImplementedError(f"the oracle has no {node.op_type}: add it to OPERATORS")
    return OPERATORS[node.op_type]


def _tensor(initializer: onnx.TensorProto) -> Any:
    tensor = torch.tensor(numpy_helper.to_array(initializer))
    return tensor.double().requires_grad_() if tensor.is_floating_point() else tensor


def _keep(name: str, tensor: Any, fixed: dict[str, Any]) -> None:
    if tensor.requires_grad:
        tensor.retain_grad()
        fixed[name] = tensor


def _constant(attributes: Attributes) -> Any:
    (name, value), *_ = attributes.items()
    if name == "value":
        return _tensor(value)
    return torch.tensor(value, dtype=torch.float64 if "float" in name else torch.int64)


def _gemm(attributes: Attributes, a: Any, b: Any, c: Any = None) -> Any:
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    out = attributes.get("alpha", 1.0) * (a @ b)
    return out if c is None else out + attributes.get("beta", 1.0) * c


def _conv(attributes: Attributes, x: Any, w: Any, b: Any = None) -> Any:
    of = {3: functional.conv1d, 4: functional.conv2d}[x.dim()]
    return of(
        x, w, b, attributes.get("strides", 1), _pads(attributes, x.dim() - 2),
        attributes.get("dilations", 1), attributes.get("group", 1),
    )  # fmt: skip


def _conv_transpose(attributes: Attributes, x: Any, w: Any, b: Any = None) -> Any:
    of = {3: functional.conv_transpose1d, 4: functional.conv_transpose2d}[x.dim()]
    return of(
        x, w, b, attributes.get("strides", 1), _pads(attributes, x.dim() - 2),
        attributes.get("output_padding", 0), attributes.get("group", 1),
    )  # fmt: skip


def _pads(attributes: Attributes, axes: int) -> list[int]:
    pads = list(attributes.get("pads", [0] * 2 * axes))
    assert pads[:axes] == pads[axes:], "exporters pad both sides alike"
    return pads[:axes]


def _batch_norm(attributes: Attributes, x: Any, s: Any, b: Any, mean: Any, variance: Any) -> Any:
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean, variance, s, b = (one.reshape(shape) for one in (mean, variance, s, b))
    return (x - mean) / torch.sqrt(variance + attributes.get("epsilon", 1e-5)) * s + b


def _layer_norm(attributes: Attributes, x: Any, s: Any, b: Any = None) -> Any:
    return functional.layer_norm(x, s.shape, s, b, attributes.get("epsilon", 1e-5))


def _max_pool(attributes: Attributes, x: Any) -> Any:
    return functional.max_pool2d(
        x, attributes["kernel_shape"], attributes["strides"], _pads(attributes, 2)
    )


def _reshape(attributes: Attributes, x: Any, shape: Any) -> Any:
    sizes = shape.tolist()
    if not attributes.get("allowzero"):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(attributes: Attributes, x: Any) -> Any:
    return x.reshape(*([-1] if not attributes.get("axis", 1) else [x.shape[0], -1]))


def _reduce_mean(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    along = list(attributes.get("axes", [])) if axes is None else axes.tolist()
    return x.mean(along, keepdim=bool(attributes.get("keepdims", 1)))


def _axes(attributes: Attributes, axes: Any) -> list[int]:
    return list(attributes["axes"] if axes is None else axes.reshape(-1).tolist())


def _squeeze(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    if axes is None and not attributes:
        return x.squeeze()
    return x.squeeze(_axes(attributes, axes))


def _unsqueeze(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    for axis in sorted(_axes(attributes, axes)):
        x = x.unsqueeze(axis)
    return x


def _split(attributes: Attributes, x: Any, sizes: Any = None) -> Any:
    axis = attributes.get("axis", 0)
    if sizes is None and "split" not in attributes:
        return x.chunk(attributes["num_outputs"], axis)
    return x.split(list(attributes["split"] if sizes is None else sizes.tolist()), axis)


def _slice(
    _attributes: Attributes, x: Any, starts: Any, ends: Any, axes: Any, steps: Any = None
) -> Any:
    for at, axis in enumerate(axes.tolist()):
        assert steps is None or steps[at] == 1, "exporters slice without steps"
        first, last, _ = slice(int(starts[at]), int(ends[at])).indices(x.shape[axis])
        x = x.narrow(axis, first, max(last - first, 0))
    return x


def _gather(attributes: Attributes, x: Any, index: Any) -> Any:
    axis = attributes.get("axis", 0) % x.dim()
    chosen = x.index_select(axis, index.reshape(-1) % x.shape[axis])
    return chosen.reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def _clip(_: Attributes, x: Any, low: Any = None, high: Any = None) -> Any:
    return torch.clamp(x, low, high)


def _cast(attributes: Attributes, x: Any) -> Any:
    kind = {"f": torch.float64, "i": torch.int64, "b": torch.bool}
    return x.to(kind[helper.tensor_dtype_to_np_dtype(attributes["to"]).kind])


def _gelu(attributes: Attributes, x: Any) -> Any:
    return functional.gelu(x, approximate=attributes.get("approximate", b"none").decode())


OPERATORS: Final[Mapping[str, Callable[..., Any]]] = {
    "Add": lambda _, a, b: a + b,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "CastLike": lambda _, x, like: x.to(like.dtype),
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Constant": _constant,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": lambda _, a, b: a / b if a.is_floating_point() else a // b,
    "Erf": lambda _, x: torch.erf(x),
    "Expand": lambda _, x, shape: x.expand(torch.broadcast_shapes(x.shape, shape.tolist())),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "Identity": lambda _, x: x * 1,
    "LayerNormalization": _layer_norm,
    "MatMul": lambda _, a, b: a @ b,
    "MaxPool": _max_pool,
    "Mul": lambda _, a, b: a * b,
    "Pow": lambda _, a, b: a**b,
    "ReduceMean": _reduce_mean,
    "Relu": lambda _, x: functional.relu(x),
    "Reshape": _reshape,
    "Shape": lambda attributes, x: torch.tensor(
        list(x.shape)[attributes.get("start", 0) : attributes.get("end")]
    ),
    "Slice": _slice,
    "Softmax": lambda attributes, x: torch.softmax(x, attributes.get("axis", -1)),
    "Split": _split,
    "Sqrt": lambda _, x: torch.sqrt(x),
    "Squeeze": _squeeze,
    "Sub": lambda _, a, b: a - b,
    "Transpose": lambda attributes, x: x.permute(list(attributes["perm"])),
    "Unsqueeze": _unsqueeze,
}
