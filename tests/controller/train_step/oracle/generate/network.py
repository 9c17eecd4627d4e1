"""A small network with one hidden layer, in ONNX and in PyTorch."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch  # type: ignore[import-not-found]
from onnx import TensorProto, helper, numpy_helper

from tests.controller.train_step.oracle.reference import Array

INPUTS: Final = 16
HIDDEN: Final = 12


@dataclass(frozen=True, slots=True)
class Network:
    """Linear, Relu, linear; then the logarithm of the softmax, if it ``ends_in_logarithms``."""

    outputs: int
    ends_in_logarithms: bool = False

    def parameters(self) -> dict[str, Array]:
        """Values to start from."""
        random = np.random.default_rng(self.outputs)
        shapes = {
            "hidden.weight": (HIDDEN, INPUTS),
            "hidden.bias": (HIDDEN,),
            "out.weight": (self.outputs, HIDDEN),
            "out.bias": (self.outputs,),
        }
        return {
            name: (random.standard_normal(shape) * 0.4).astype("f")
            for name, shape in shapes.items()
        }

    def model(self) -> bytes:
        """The ONNX file."""
        nodes = [
            helper.make_node("Gemm", ["x", "hidden.weight", "hidden.bias"], ["h"], transB=1),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "out.weight", "out.bias"], ["out"], transB=1),
        ]
        last = "out"
        if self.ends_in_logarithms:
            nodes.append(helper.make_node("LogSoftmax", ["out"], ["logarithms"], axis=-1))
            last = "logarithms"
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", INPUTS])],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", self.outputs])],
            [numpy_helper.from_array(one, name) for name, one in self.parameters().items()],
        )
        opset = helper.make_opsetid("", 18)
        made = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        return bytes(made.SerializeToString())

    def in_torch(self, x: Any, parameters: Mapping[str, Any]) -> Any:
        """The same."""
        hidden = torch.relu(x @ parameters["hidden.weight"].T + parameters["hidden.bias"])
        out = hidden @ parameters["out.weight"].T + parameters["out.bias"]
        return out.log_softmax(-1) if self.ends_in_logarithms else out


def rows(size: int, of: str) -> tuple[Array, np.random.Generator]:
    """As many rows for the network, and the generator that made them."""
    random = np.random.default_rng(zlib.crc32(f"{of} {size}".encode()))
    return random.standard_normal((size, INPUTS)).astype("f"), random
