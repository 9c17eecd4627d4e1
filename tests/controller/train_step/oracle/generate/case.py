"""A case of one operator: what follows ``h = x + p`` in ONNX, and the same in PyTorch."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch  # type: ignore[import-not-found]
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch.nn.functional import mse_loss  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.reference import Array, Reference

BATCH: Final = 4
node = helper.make_node


@dataclass(frozen=True, slots=True)
class Case:
    """One operator, with as many nodes around it as it needs.

    Attributes:
        nodes: from ``h`` and the weights to ``out``.
        shape: of ``h``, without the batch.
        in_torch: the same: takes h and the weights by name, gives out.
        weights: what is trained beside ``p``: shapes, or the values themselves.
        constants: what is not.
        scale: of the input, which is normally distributed.
        shift: of the input.
        opset: an opset that has the operator in this form.
    """

    name: str
    nodes: tuple[NodeProto, ...]
    shape: tuple[int, ...]
    in_torch: Callable[..., Any]
    weights: Mapping[str, tuple[int, ...] | Array] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    shift: float = 0.0
    opset: int = 20

    def reference(self) -> Reference:
        """Mean squared error to a random target, and its gradients: of ``p`` and every weight."""
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        x = (random.standard_normal((BATCH, *self.shape)) * self.scale + self.shift).astype("f")
        trained = {"p": (random.standard_normal((1, *self.shape)) * 0.3).astype("f")} | {
            name: given
            if isinstance(given, np.ndarray)
            else (random.standard_normal(given) * 0.5).astype("f")
            for name, given in self.weights.items()
        }
        leaves = {name: leaf(array) for name, array in trained.items()}
        weights = {name: tensor for name, tensor in leaves.items() if name != "p"}
        out = self.in_torch(torch.tensor(x).double() + leaves["p"], **weights)
        target = random.standard_normal(tuple(out.shape)).astype("f")
        loss = mse_loss(out, torch.tensor(target).double())
        loss.backward()
        return Reference(
            name=self.name,
            model=self._model(trained),
            loss="mse",
            inputs={"x": x},
            target=target,
            value=loss.item(),
            tensors={name: tensor.grad.numpy() for name, tensor in leaves.items()},
        )

    def _model(self, trained: Mapping[str, Array]) -> bytes:
        values = {**trained, **{name: np.asarray(one) for name, one in self.constants.items()}}
        graph = helper.make_graph(
            [node("Add", ["x", "p"], ["h"]), *self.nodes],
            "case",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *self.shape])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in values.items()],
        )
        opset = helper.make_opsetid("", self.opset)
        made = helper.make_model(graph, opset_imports=[opset], ir_version=9)
        return bytes(made.SerializeToString())


def leaf(array: Array) -> Any:
    """The array in float64, with a gradient to come."""
    return torch.tensor(array, dtype=torch.float64).requires_grad_()
