"""Cases of forms that are rarer, as exporters of other frameworks write them."""

from collections.abc import Iterator

import numpy as np
import torch  # type: ignore[import-not-found]
from torch.nn import functional  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.generate.case import Case, node


def cases() -> Iterator[Case]:
    """Defaults of attributes, sides that differ, axes told otherwise, values used twice."""
    yield from defaults()
    yield from windows()
    yield from pools()
    yield from axes()
    yield from shared()


def defaults() -> Iterator[Case]:
    """Operators that leave their attributes out."""
    for name, in_torch in {
        "LeakyRelu": lambda h: functional.leaky_relu(h, 0.01),
        "Elu": functional.elu,
        "HardSigmoid": lambda h: torch.clamp(0.2 * h + 0.5, 0, 1),
        "Softmax": lambda h: torch.softmax(h, -1),
        "Transpose": lambda h: h.permute(2, 1, 0),
        "Flatten": lambda h: h.flatten(1),
    }.items():
        yield Case(f"{name} as it is", (node(name, ["h"], ["out"]),), (3, 5), in_torch)
    for name, in_torch in {
        "ReduceMean": lambda h: h.mean((0, 1, 2), keepdim=True),
        "ReduceSum": lambda h: h.sum((0, 1, 2), keepdim=True),
    }.items():
        spread = (node(name, ["h"], ["r"]), node("Mul", ["r", "h"], ["out"]))
        yield Case(f"{name} of everything", spread, (3, 5), lambda h, of=in_torch: of(h) * h)
    yield Case(
        "Softmax of opset 11",
        (node("Softmax", ["h"], ["out"], axis=1),),
        (3, 5),
        lambda h: h.flatten(1).softmax(1).reshape(h.shape),
        opset=11,
    )
    yield Case(
        "CastLike",
        (node("CastLike", ["h", "like"], ["c"]), node("Exp", ["c"], ["e"]),
         node("CastLike", ["e", "h"], ["out"])),
        (5,),
        torch.exp,
        constants={"like": np.zeros(1, np.float64)},
    )  # fmt: skip


def windows() -> Iterator[Case]:
    """Convolutions with sides that differ, with gaps, and with several filters a channel."""
    yield Case(
        "ConvTranspose of one dimension, output padding",
        (node("ConvTranspose", ["h", "w"], ["out"], strides=[3], pads=[1, 1], output_padding=[1]),),
        (3, 5),
        lambda h, w: functional.conv_transpose1d(h, w, None, 3, 1, 1),
        weights={"w": (3, 2, 4)},
    )
    yield Case(
        "ConvTranspose with dilation",
        (node("ConvTranspose", ["h", "w"], ["out"], dilations=[2, 2], pads=[1] * 4),),
        (3, 5, 4),
        lambda h, w: functional.conv_transpose2d(h, w, None, 1, 1, 0, 1, 2),
        weights={"w": (3, 2, 3, 3)},
    )
    yield Case(
        "ConvTranspose with a pad for each side",
        (node("ConvTranspose", ["h", "w"], ["out"], strides=[2, 2], pads=[0, 1, 1, 0]),),
        (3, 5, 4),
        lambda h, w: functional.conv_transpose2d(h, w, None, 2)[:, :, :-1, 1:],
        weights={"w": (3, 2, 3, 3)},
    )
    for kernel, stride, dilation in ((2, 3, 1), (2, 1, 3), (3, 2, 2)):
        yield Case(
            f"Conv kernel {kernel}, stride {stride}, dilation {dilation}",
            (node("Conv", ["h", "w"], ["out"], strides=[stride] * 2, dilations=[dilation] * 2),),
            (6, 9, 8),
            lambda h, w, s=stride, d=dilation: functional.conv2d(h, w, None, s, 0, d),
            weights={"w": (5, 6, kernel, kernel)},
        )
    yield Case(
        "Conv with auto_pad below",
        (node("Conv", ["h", "w"], ["out"], auto_pad="SAME_LOWER", strides=[2, 2]),),
        (3, 6, 7),
        lambda h, w: functional.conv2d(functional.pad(h, (1, 1, 1, 0)), w, stride=2),
        weights={"w": (4, 3, 3, 3)},
    )
    yield Case(
        "Conv of oblong kernels",
        (node("Conv", ["h", "w"], ["out"], strides=[1, 2], pads=[0, 2, 0, 2]),),
        (2, 6, 9),
        lambda h, w: functional.conv2d(h, w, None, (1, 2), (0, 2)),
        weights={"w": (3, 2, 1, 5)},
    )


def pools() -> Iterator[Case]:
    """Pools with sides that differ and with gaps."""
    pads = {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [0, 1, 1, 2]}
    yield Case(
        "MaxPool with a pad for each side",
        (node("MaxPool", ["h"], ["out"], **pads),),  # type: ignore[arg-type]
        (3, 7, 8),
        lambda h: functional.max_pool2d(
            functional.pad(h, (1, 2, 0, 1), value=-torch.inf), (2, 3), 2
        ),
    )
    yield Case(
        "AveragePool with a pad for each side",
        (node("AveragePool", ["h"], ["out"], count_include_pad=1, **pads),),  # type: ignore[arg-type]
        (3, 7, 8),
        lambda h: functional.avg_pool2d(functional.pad(h, (1, 2, 0, 1)), (2, 3), 2),
    )
    yield Case(
        "MaxPool with dilation",
        (node("MaxPool", ["h"], ["out"], kernel_shape=[2, 2], dilations=[2, 2], strides=[2, 2]),),
        (3, 7, 8),
        lambda h: functional.max_pool2d(h, 2, 2, 0, 2),
    )
    yield Case(
        "MaxPool with auto_pad",
        (
            node(
                "MaxPool",
                ["h"],
                ["out"],
                kernel_shape=[2, 2],
                strides=[2, 2],
                auto_pad="SAME_UPPER",
            ),
        ),
        (3, 7, 8),
        lambda h: functional.max_pool2d(functional.pad(h, (0, 0, 0, 1), value=-torch.inf), 2),
    )
    yield Case(
        "MaxPool as exporters write it",
        (node("MaxPool", ["h"], ["out"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="NOTSET",
              ceil_mode=0, dilations=[1, 1], pads=[0] * 4, storage_order=0),),
        (3, 7, 8),
        lambda h: functional.max_pool2d(h, 2),
    )  # fmt: skip
    yield Case(
        "MaxPool of three dimensions",
        (node("MaxPool", ["h"], ["out"], kernel_shape=[2] * 3, strides=[2] * 3),),
        (2, 4, 4, 5),
        lambda h: functional.max_pool3d(h, 2),
    )


def axes() -> Iterator[Case]:
    """Axes from the end, more than one, or none."""
    for axis, in_torch in (
        (2, lambda h: h.reshape(-1, 5)),
        (-1, lambda h: h.reshape(-1, 5)),
    ):
        yield Case(
            f"Flatten from {axis}", (node("Flatten", ["h"], ["out"], axis=axis),), (3, 5), in_torch
        )
    yield Case(
        "Unsqueeze from the end",
        (node("Unsqueeze", ["h", "a"], ["out"]),),
        (3, 5),
        lambda h: h[:, :, None, :, None],
        constants={"a": np.array([-1, -3])},
    )
    yield Case(
        "Reshape with zeros",
        (node("Reshape", ["h", "s"], ["out"]),),
        (3, 4),
        lambda h: h.reshape(-1, 3, 2, 2),
        constants={"s": np.array([0, 0, 2, -1])},
    )
    yield Case(
        "Slice backwards with a step",
        (node("Slice", ["h", "s", "e", "a", "k"], ["out"]),),
        (6, 7),
        lambda h: h[:, :, [5, 3, 1]],
        constants={"s": np.array([-2]), "e": np.array([0]), "a": np.array([-1]),
                   "k": np.array([-2])},
    )  # fmt: skip
    yield Case(
        "Split, of which one part is used",
        (node("Split", ["h", "z"], ["a", "b", "c"], axis=-1), node("Exp", ["b"], ["out"])),
        (3, 7),
        lambda h: h[:, :, 2:5].exp(),
        constants={"z": np.array([2, 3, 2])},
    )
    yield Case(
        "ReduceMean from the end",
        (node("ReduceMean", ["h", "a"], ["out"], keepdims=0),),
        (3, 4, 5),
        lambda h: h.mean((1, 3)),
        constants={"a": np.array([-1, 1])},
    )
    yield Case(
        "Pad in front alone",
        (node("Pad", ["h", "pads"], ["out"]),),
        (3, 5),
        lambda h: functional.pad(h, (2, 0)),
        constants={"pads": np.array([0, 0, 2, 0, 0, 0])},
    )


def shared() -> Iterator[Case]:
    """Values used twice, and weights that are spread over the batch."""
    yield Case("Mul with itself", (node("Mul", ["h", "h"], ["out"]),), (5,), lambda h: h * h)
    yield Case(
        "Gemm, one weight twice",
        (node("Gemm", ["h", "w"], ["a"]), node("Relu", ["a"], ["r"]),
         node("Gemm", ["r", "w"], ["out"], transB=1)),
        (5,),
        lambda h, w: functional.relu(h @ w) @ w.T,
        weights={"w": (5, 4)},
    )  # fmt: skip
    yield Case(
        "Expand of a token to the batch",
        (node("Shape", ["h"], ["batch"], start=0, end=1),
         node("Concat", ["batch", "rest"], ["shape"], axis=0),
         node("Expand", ["w", "shape"], ["tokens"]),
         node("Concat", ["tokens", "h"], ["out"], axis=1)),
        (3, 5),
        lambda h, w: torch.cat([w.expand(h.shape[0], 1, 5), h], 1),
        weights={"w": (1, 1, 5)},
        constants={"rest": np.array([1, 5])},
    )  # fmt: skip
    yield Case(
        "Where with a broadcast condition",
        (node("Where", ["c", "h", "w"], ["out"]),),
        (3, 5),
        lambda h, w: torch.where(torch.tensor([[True], [False], [True]]), h, w),
        weights={"w": ()},
        constants={"c": np.array([[True], [False], [True]])},
    )
    yield Case(
        "Sum with a broadcast",
        (node("Sum", ["h", "w", "v"], ["out"]),),
        (3, 5),
        lambda h, w, v: h + w + v,
        weights={"w": (3, 1), "v": ()},
    )
    yield Case(
        "Pow of a half",
        (node("Softplus", ["h"], ["s"]), node("Pow", ["s", "e"], ["out"])),
        (5,),
        lambda h: functional.softplus(h) ** 0.5,
        constants={"e": np.float32(0.5)},
    )
    yield Case(
        "LayerNormalization away from zero",
        (node("LayerNormalization", ["h", "s", "b"], ["out"], epsilon=1e-3),),
        (4, 6),
        lambda h, s, b: functional.layer_norm(h, (6,), s, b, 1e-3),
        weights={"s": (6,), "b": (6,)},
        shift=4.0,
    )
