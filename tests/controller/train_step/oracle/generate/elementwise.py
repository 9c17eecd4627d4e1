"""Cases of functions of one element."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch  # type: ignore[import-not-found]
from onnx import TensorProto
from torch.nn import functional  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.generate.case import Case, node

PLAIN = {
    "Abs": torch.abs,
    "Cos": torch.cos,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Gelu": functional.gelu,
    "HardSwish": functional.hardswish,
    "Identity": lambda h: h,
    "Neg": torch.neg,
    "Relu": functional.relu,
    "Sigmoid": torch.sigmoid,
    "Sin": torch.sin,
    "Softplus": functional.softplus,
    "Tanh": torch.tanh,
}
OF_POSITIVES = {"Log": torch.log, "Reciprocal": torch.reciprocal, "Sqrt": torch.sqrt}


def cases() -> Iterator[Case]:
    """Activations, powers, bounds, and what inference does nothing for."""
    for name, in_torch in PLAIN.items():
        yield Case(name, (node(name, ["h"], ["out"]),), (5,), in_torch)
    for name, in_torch in OF_POSITIVES.items():
        positive = node("Softplus", ["h"], ["s"]), node(name, ["s"], ["out"])
        yield Case(name, positive, (5,), lambda h, of=in_torch: of(functional.softplus(h)))
    yield from with_attributes()
    yield from bounds()
    for name, power, kind in (
        ("Pow 2", 2, np.float32),
        ("Pow 3", 3, np.float32),
        ("Pow of an integer", 3, np.int64),
    ):
        yield Case(
            name,
            (node("Pow", ["h", "e"], ["out"]),),
            (5,),
            partial(torch.pow, exponent=power),
            constants={"e": kind(power)},
        )
    yield Case("Dropout", (node("Dropout", ["h"], ["out"]),), (5,), lambda h: h)
    there_and_back = (
        node("Cast", ["h"], ["d"], to=TensorProto.DOUBLE),
        node("Exp", ["d"], ["e"]),
        node("Cast", ["e"], ["out"], to=TensorProto.FLOAT),
    )
    yield Case("Cast", there_and_back, (5,), torch.exp)


def with_attributes() -> Iterator[Case]:
    """Activations that have attributes."""
    yield Case(
        "LeakyRelu",
        (node("LeakyRelu", ["h"], ["out"], alpha=0.2),),
        (5,),
        partial(functional.leaky_relu, negative_slope=0.2),
    )
    yield Case(
        "Elu", (node("Elu", ["h"], ["out"], alpha=0.7),), (5,), partial(functional.elu, alpha=0.7)
    )
    yield Case(
        "HardSigmoid",
        (node("HardSigmoid", ["h"], ["out"], alpha=1 / 6, beta=0.5),),
        (5,),
        functional.hardsigmoid,
        scale=3.0,
    )
    yield Case(
        "Gelu by tanh",
        (node("Gelu", ["h"], ["out"], approximate="tanh"),),
        (5,),
        partial(functional.gelu, approximate="tanh"),
    )


def bounds() -> Iterator[Case]:
    """Clip, with both bounds, with one, and from an opset that has to be lifted."""
    low, high = {"low": np.float32(-0.5)}, {"high": np.float32(0.75)}
    yield Case(
        "Clip",
        (node("Clip", ["h", "low", "high"], ["out"]),),
        (5,),
        partial(torch.clamp, min=-0.5, max=0.75),
        constants=low | high,
    )
    yield Case(
        "Clip from below",
        (node("Clip", ["h", "low"], ["out"]),),
        (5,),
        partial(torch.clamp, min=-0.5),
        constants=low,
    )
    yield Case(
        "Clip from above",
        (node("Clip", ["h", "", "high"], ["out"]),),
        (5,),
        partial(torch.clamp, max=0.75),
        constants=high,
    )
    for name, far in ("an infinite bound", -np.inf), ("the least bound", np.finfo("f").min):
        yield Case(
            f"Clip with {name}",
            (node("Clip", ["h", "far", "high"], ["c"]), node("Mul", ["c", "h"], ["out"])),
            (9,),
            lambda h: torch.clamp(h, max=0) * h,
            constants={"far": np.float32(far), "high": np.float32(0)},
        )
    yield Case(
        "Clip of opset 13",
        (node("Clip", ["h", "low", "high"], ["c"]), node("Mul", ["c", "h"], ["out"])),
        (5,),
        lambda h: torch.clamp(h, 0, 6) * h,
        constants={"low": np.float32(0), "high": np.float32(6)},
        opset=13,
    )
