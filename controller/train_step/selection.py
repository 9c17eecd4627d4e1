"""Which initializers are parameters, and which of them are trained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from types import MappingProxyType
from typing import Final, Literal

from onnx import GraphProto, NodeProto, TensorProto

from controller.train_step.errors import NoParameters
from controller.train_step.graph import FLOATS, ancestors, initializers, is_standard


@dataclass(frozen=True, slots=True)
class LastLayers:
    """The last so many layers with weights, at least 1, and normalizations behind them."""

    count: int


Trainable = Literal["all", "head"] | LastLayers | tuple[str, ...]
"""``head`` is the last layer; a tuple has names of initializers, and patterns of parameters' names:
``("encoder.*",)``."""

WEIGHTS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "Gemm": (1, 2),
        "MatMul": (0, 1),
        "Conv": (1, 2),
        "ConvTranspose": (1, 2),
        "BatchNormalization": (1, 2),
        "LayerNormalization": (1, 2),
        "Gather": (0,),
        "PRelu": (1,),
    }
)
"""Which inputs of an operator are parameters."""

MOST_TOLD: Final = 12
"""Names of parameters, where one was meant that there is not."""
_LINEAR: Final = ("Gemm", "MatMul", "Conv", "ConvTranspose")
_ARITHMETIC: Final = ("Add", "Sub", "Mul", "Div")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An initializer that is a parameter, and of which layer: 0 the first, -1 what is before it."""

    name: str
    layer: int


def candidates(graph: GraphProto, output: str) -> list[Candidate]:
    """The parameters that ``output`` depends on, in the order of depth.

    They are weights by their operator, and vectors added to or multiplied with what has passed a
    weight. Other floats are none: bounds of a clip, the root in Gelu, the scaling of inputs.
    """
    floats = {one.name: one for one in graph.initializer if one.data_type in FLOATS}
    layers: dict[str, int] = {}
    passed: set[str] = set()
    linear: set[str] = set()
    layer = -1
    for node in ancestors(graph, [output]):
        weights = _weights(node, floats)
        if weights and node.op_type != "BatchNormalization":
            layer += 1
        found = weights or _added(node, floats, passed, linear)
        for name in found:
            layers.setdefault(name, layer)
        if found or any(name in passed for name in node.input):
            passed.update(node.output)
        if weights and node.op_type in _LINEAR:
            linear.update(node.output)
    return [Candidate(name, layer) for name, layer in layers.items()]


def select(graph: GraphProto, trainable: Trainable, output: str) -> list[str]:
    """Names of the initializers that are trained, in the order of depth.

    Raises:
        NoParameters: a pattern matches none.
    """
    found = candidates(graph, output)
    match trainable:
        case "all":
            return [one.name for one in found]
        case "head":
            return _last(found, 1)
        case LastLayers(count):
            return _last(found, count)
        case _:
            return _matching(graph, trainable, [one.name for one in found], output)


def _last(found: Sequence[Candidate], count: int) -> list[str]:
    top = max((one.layer for one in found), default=0)
    return [one.name for one in found if one.layer > top - count]


def _matching(
    graph: GraphProto, patterns: Sequence[str], parameters: Sequence[str], output: str
) -> list[str]:
    """Who names an initializer means it, parameter or not; a pattern is of parameters only."""
    floats = {name for name, one in initializers(graph).items() if one.data_type in FLOATS}
    used = dict.fromkeys(name for node in ancestors(graph, [output]) for name in node.input)
    wanted: set[str] = set()
    for pattern in patterns:
        named = {pattern} & floats & used.keys()
        found = named or {name for name in parameters if fnmatchcase(name, pattern)}
        if not found:
            there = ", ".join([*parameters[:MOST_TOLD], *(["…"] if parameters[MOST_TOLD:] else [])])
            raise NoParameters(
                f"no parameter before {output!r} has a name like {pattern!r}; there are: {there}"
            )
        wanted |= found
    return [name for name in used if name in wanted]


def _weights(node: NodeProto, floats: Mapping[str, TensorProto]) -> list[str]:
    slots = WEIGHTS.get(node.op_type, ()) if is_standard(node) else ()
    taken = (node.input[slot] for slot in slots if slot < len(node.input))
    return [name for name in taken if name in floats]


def _added(
    node: NodeProto, floats: Mapping[str, TensorProto], passed: set[str], linear: set[str]
) -> list[str]:
    """Vectors that the node adds to, or multiplies with, what has passed a weight."""
    if not is_standard(node, *_ARITHMETIC):
        return []
    found = []
    for name in node.input:
        others = [one for one in node.input if one != name]
        if name not in floats or not _any(others, passed):
            continue
        dims = floats[name].dims
        # Of one element only the bias of a layer with one unit.
        lone_bias = len(dims) > 0 and node.op_type == "Add" and _any(others, linear)
        if prod(dims) > 1 or lone_bias:
            found.append(name)
    return found


def _any(names: Iterable[str], among: set[str]) -> bool:
    return any(name in among for name in names)
