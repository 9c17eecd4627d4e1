"""Cases of operators that move values, and of sums along axes."""

from collections.abc import Iterator

import numpy as np
import torch  # type: ignore[import-not-found]
from torch.nn import functional  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.generate.case import Case, node

FAR = 2**62  # an end that is beyond every axis


def cases() -> Iterator[Case]:
    """Another shape, another order, parts, and sums."""
    yield from reshapes()
    yield from joints()
    yield from slices()
    yield from gathers()
    yield from reductions()


def reshapes() -> Iterator[Case]:
    """The same values in another shape."""
    yield Case(
        "Reshape",
        (node("Reshape", ["h", "s"], ["out"]),),
        (3, 4),
        lambda h: h.reshape(-1, 12),
        constants={"s": np.array([-1, 12])},
    )
    yield Case("Flatten", (node("Flatten", ["h"], ["out"]),), (3, 4), lambda h: h.flatten(1))
    yield Case(
        "Transpose",
        (node("Transpose", ["h"], ["out"], perm=[2, 0, 1]),),
        (3, 4),
        lambda h: h.permute(2, 0, 1),
    )
    yield Case(
        "Squeeze",
        (
            node("Unsqueeze", ["h", "a"], ["u"]),
            node("Squeeze", ["u", "a"], ["v"]),
            node("Exp", ["v"], ["out"]),
        ),
        (4,),
        torch.exp,
        constants={"a": np.array([1])},
    )
    yield Case(
        "Expand",
        (node("Expand", ["h", "s"], ["out"]),),
        (1, 4),
        lambda h: h.expand(-1, 3, 4),
        constants={"s": np.array([1, 3, 1])},
    )
    yield Case(
        "Pad",
        (node("Pad", ["h", "pads"], ["out"]),),
        (6, 7),
        lambda h: functional.pad(h, (0, 3, 1, 2)),
        constants={"pads": np.array([0, 1, 0, 0, 2, 3])},
    )


def joints() -> Iterator[Case]:
    """Concat and Split."""
    yield Case(
        "Concat",
        (node("Exp", ["h"], ["e"]), node("Concat", ["h", "e"], ["out"], axis=1)),
        (3, 4),
        lambda h: torch.cat([h, h.exp()], 1),
    )
    yield Case(
        "Concat along the last axis",
        (node("Exp", ["h"], ["e"]), node("Concat", ["e", "h", "e"], ["out"], axis=-1)),
        (3, 4),
        lambda h: torch.cat([h.exp(), h, h.exp()], -1),
    )
    yield Case(
        "Split",
        (
            node("Split", ["h"], ["a", "b", "c"], axis=1, num_outputs=3),
            node("Mul", ["a", "c"], ["out"]),
        ),
        (6, 4),
        lambda h: h[:, :2] * h[:, 4:],
    )
    yield Case(
        "Split by sizes",
        (node("Split", ["h", "sizes"], ["a", "b"], axis=1), node("Exp", ["b"], ["out"])),
        (6, 4),
        lambda h: h[:, 2:].exp(),
        constants={"sizes": np.array([2, 4])},
    )


def slices() -> Iterator[Case]:
    """Slice from the front, from the end, with steps, backwards."""
    for name, bounds, in_torch in (
        ("Slice", ([1, 2], [5, FAR], [1, 2]), lambda h: h[:, 1:5, 2:]),
        ("Slice from the end", ([-3], [-1], [-1]), lambda h: h[:, :, -3:-1]),
        ("Slice with a step", ([1], [99], [2], [2]), lambda h: h[:, :, 1::2]),
        ("Slice backwards", ([-1], [-FAR], [1], [-1]), lambda h: h.flip(1)),
    ):
        names = ["starts", "ends", "axes", "steps"][: len(bounds)]
        yield Case(
            name,
            (node("Slice", ["h", *names], ["out"]),),
            (6, 7),
            in_torch,
            constants={key: np.array(bound) for key, bound in zip(names, bounds, strict=True)},
        )


def gathers() -> Iterator[Case]:
    """Gather by one index, a row of them with one twice, a table of them, from the end."""
    for name, axis, index, in_torch in (
        ("Gather one", 1, 2, lambda h: h[:, 2]),
        ("Gather some", 2, [1, 1, 4], lambda h: h[:, :, [1, 1, 4]]),
        ("Gather a table", 1, [[1, 1], [-1, 0]], lambda h: h[:, torch.tensor([[1, 1], [-1, 0]])]),
        ("Gather from the end", -1, -1, lambda h: h[..., -1]),
    ):
        yield Case(
            name,
            (node("Gather", ["h", "i"], ["out"], axis=axis),),
            (6, 7),
            in_torch,
            constants={"i": np.array(index)},
        )


def reductions() -> Iterator[Case]:
    """Sums and means along axes."""
    for kept in (0, 1):
        keeps = "keeping the axes" if kept else "dropping the axes"
        yield Case(
            f"ReduceMean {keeps}",
            (node("ReduceMean", ["h", "a"], ["out"], keepdims=kept),),
            (3, 4, 5),
            lambda h, kept=kept: h.mean((2, 3), keepdim=bool(kept)),
            constants={"a": np.array([2, 3])},
        )
        yield Case(
            f"ReduceSum {keeps}",
            (node("ReduceSum", ["h", "a"], ["out"], keepdims=kept),),
            (3, 4, 5),
            lambda h, kept=kept: h.sum(-2, keepdim=bool(kept)),
            constants={"a": np.array([-2])},
        )
    yield Case(
        "ReduceMean of opset 17",
        (node("ReduceMean", ["h"], ["out"], axes=[1], keepdims=0),),
        (3, 4, 5),
        lambda h: h.mean(1),
        opset=17,
    )
