"""Cases of functions of several elements, with what they broadcast."""

import zlib
from collections.abc import Iterator

import numpy as np
import torch  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.generate.case import Case, node

BINARY = {"Add": torch.add, "Div": torch.div, "Mul": torch.mul, "Sub": torch.sub}
# What is added to, multiplied with … [batch, 3, 5].
BROADCAST: tuple[tuple[int, ...], ...] = ((), (1, 1), (1, 3, 5), (3, 1), (3, 5), (5,))


def cases() -> Iterator[Case]:
    """The four operations with every broadcast from either side, choices, and sums of many."""
    for name, in_torch in BINARY.items():
        for shape in BROADCAST:
            yield binary(name, shape, lambda h, w, of=in_torch: of(h, w))
            yield binary(name, shape, lambda h, w, of=in_torch: of(w, h), reverse=True)
    yield Case(
        "Mul of an outer product",
        (
            node("Unsqueeze", ["h", "a1"], ["u"]),
            node("Unsqueeze", ["h", "a2"], ["v"]),
            node("Mul", ["u", "v"], ["out"]),
        ),
        (5,),
        lambda h: h[:, None] * h[:, :, None],
        constants={"a1": np.array([1]), "a2": np.array([2])},
    )
    yield Case(
        "Sum",
        (node("Sum", ["h", "w", "h"], ["out"]),),
        (5,),
        lambda h, w: h + w + h,
        weights={"w": (5,)},
    )
    yield from choices()


def binary(name: str, shape: tuple[int, ...], in_torch: object, *, reverse: bool = False) -> Case:
    """The operation between h of [batch, 3, 5] and a weight of this shape, away from 0."""
    assert callable(in_torch)
    random = np.random.default_rng(zlib.crc32(f"{name} {shape}".encode()))
    weight = np.asarray(random.standard_normal(shape) * 0.2 + 1.5, np.float32)
    inputs = ["w", "h"] if reverse else ["h", "w"]
    return Case(
        f"{name} {'to' if reverse else 'of'} {list(shape)}",
        (node(name, inputs, ["out"]),),
        (3, 5),
        in_torch,
        weights={"w": weight},
        shift=3.0 if reverse else 0.0,
    )


def choices() -> Iterator[Case]:
    """Operators that let one of several through."""
    weight = {"w": (5,)}
    yield Case("Max", (node("Max", ["h", "w"], ["out"]),), (5,), torch_max, weight)
    yield Case("Min", (node("Min", ["h", "w"], ["out"]),), (5,), torch_min, weight)
    yield Case(
        "PRelu",
        (node("PRelu", ["h", "w"], ["out"]),),
        (3, 5),
        lambda h, w: torch.where(h > 0, h, h * w),
        weights={"w": (3, 1)},
    )
    yield Case(
        "Where",
        (node("Greater", ["h", "zero"], ["c"]), node("Where", ["c", "h", "w"], ["out"])),
        (5,),
        lambda h, w: torch.where(h > 0, h, w),
        weights=weight,
        constants={"zero": np.float32(0)},
    )


def torch_max(h: object, w: object) -> object:
    """The greater, element by element."""
    return torch.maximum(h, w)


def torch_min(h: object, w: object) -> object:
    """The lesser, element by element."""
    return torch.minimum(h, w)
