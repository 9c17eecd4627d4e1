"""Cases of convolutions."""

from collections.abc import Iterator
from typing import NamedTuple

from torch.nn import functional  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.generate.case import Case, node


class Window(NamedTuple):
    """How a kernel goes over its input."""

    stride: int
    pad: int
    dilation: int
    groups: int
    kernel: int
    channels: int
    filters: int
    size: tuple[int, int]


WINDOWS = (
    Window(1, 0, 1, 1, 3, 3, 4, (7, 7)),
    Window(1, 1, 1, 1, 3, 3, 4, (7, 6)),
    Window(2, 1, 1, 1, 3, 3, 4, (8, 7)),
    Window(2, 0, 1, 1, 3, 2, 4, (9, 8)),
    Window(1, 2, 2, 1, 3, 3, 4, (9, 9)),
    Window(3, 2, 1, 1, 5, 2, 3, (11, 13)),
    Window(1, 1, 1, 2, 3, 4, 6, (7, 7)),
    Window(2, 1, 1, 2, 3, 4, 6, (8, 8)),
    Window(1, 1, 1, 4, 3, 4, 4, (7, 7)),
    Window(2, 1, 1, 4, 3, 4, 8, (8, 7)),
    Window(1, 0, 1, 1, 1, 3, 5, (6, 6)),
    Window(2, 0, 1, 1, 1, 3, 5, (6, 7)),
    Window(1, 0, 1, 3, 1, 3, 3, (6, 6)),
    Window(2, 3, 2, 2, 3, 4, 4, (12, 12)),
    Window(1, 3, 1, 1, 3, 2, 2, (6, 6)),
)
# Window and output padding.
TRANSPOSED = (
    (Window(1, 0, 1, 1, 3, 3, 4, (5, 5)), 0),
    (Window(2, 1, 1, 1, 3, 3, 4, (5, 6)), 1),
    (Window(2, 1, 1, 1, 4, 3, 4, (5, 5)), 0),
    (Window(2, 0, 1, 2, 3, 4, 6, (5, 5)), 0),
    (Window(2, 1, 1, 4, 3, 4, 4, (5, 5)), 1),
    (Window(3, 2, 1, 1, 5, 2, 2, (4, 4)), 0),
)


def cases() -> Iterator[Case]:
    """Convolutions of one, two and three dimensions, and transposed ones."""
    for window in WINDOWS:
        yield plane(window)
        if window.kernel > 1:
            yield line(window)
    for window, output_padding in TRANSPOSED:
        yield transposed(window, output_padding)
    yield from pads()
    yield Case(
        "Conv of three dimensions",
        (node("Conv", ["h", "w"], ["out"], pads=[1] * 6),),
        (2, 4, 4, 4),
        lambda h, w: functional.conv3d(h, w, padding=1),
        weights={"w": (3, 2, 3, 3, 3)},
    )


def title(operator: str, window: Window) -> str:
    """The operator with what is not as usual."""
    usual = Window(1, 0, 1, 1, 3, 0, 0, (0, 0))
    told = [
        f"{name} {value}"
        for name, value in window._asdict().items()
        if name in ("stride", "pad", "dilation", "groups", "kernel")
        and value != usual._asdict()[name]
    ]
    sizes = f"{window.channels} to {window.filters} of {window.size[0]}x{window.size[1]}"
    return ", ".join([f"{operator} {sizes}", *told])


def plane(window: Window) -> Case:
    """Conv of two dimensions."""
    stride, pad, dilation, groups, kernel, channels, filters, size = window
    made = node(
        "Conv", ["h", "w", "b"], ["out"],
        strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2,
        group=groups, kernel_shape=[kernel] * 2,
    )  # fmt: skip
    return Case(
        title("Conv", window),
        (made,),
        (channels, *size),
        lambda h, w, b: functional.conv2d(h, w, b, stride, pad, dilation, groups),
        weights={"w": (filters, channels // groups, kernel, kernel), "b": (filters,)},
    )


def line(window: Window) -> Case:
    """Conv of one dimension, without a bias."""
    stride, pad, dilation, groups, kernel, channels, filters, size = window
    made = node(
        "Conv", ["h", "w"], ["out"],
        strides=[stride], pads=[pad] * 2, dilations=[dilation], group=groups,
    )  # fmt: skip
    return Case(
        title("Conv of one dimension", window),
        (made,),
        (channels, size[0]),
        lambda h, w: functional.conv1d(h, w, None, stride, pad, dilation, groups),
        weights={"w": (filters, channels // groups, kernel)},
    )


def transposed(window: Window, output_padding: int) -> Case:
    """ConvTranspose of two dimensions."""
    stride, pad, _, groups, kernel, channels, filters, size = window
    made = node(
        "ConvTranspose", ["h", "w", "b"], ["out"],
        strides=[stride] * 2, pads=[pad] * 4, output_padding=[output_padding] * 2, group=groups,
    )  # fmt: skip
    return Case(
        title("ConvTranspose", window) + (", output padding" if output_padding else ""),
        (made,),
        (channels, *size),
        lambda h, w, b: functional.conv_transpose2d(h, w, b, stride, pad, output_padding, groups),
        weights={"w": (channels, filters // groups, kernel, kernel), "b": (filters,)},
    )


def pads() -> Iterator[Case]:
    """Pads that differ from side to side; PyTorch pads first (left, right, above, below)."""
    weight = {"w": (4, 3, 3, 3)}
    yield Case(
        "Conv with a pad for each side",
        (node("Conv", ["h", "w"], ["out"], pads=[0, 1, 2, 1]),),
        (3, 6, 6),
        lambda h, w: functional.conv2d(functional.pad(h, (1, 1, 0, 2)), w),
        weights=weight,
    )
    yield Case(
        "Conv with auto_pad",
        (node("Conv", ["h", "w"], ["out"], auto_pad="SAME_UPPER", strides=[2, 2]),),
        (3, 6, 7),
        lambda h, w: functional.conv2d(functional.pad(h, (1, 1, 0, 1)), w, stride=2),
        weights=weight,
    )
