"""Cases of pools."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch.nn import functional  # type: ignore[import-not-found]

from tests.controller.train_step.oracle.generate.case import Case, node

# Kernel, stride, pad: apart, overlapping, with gaps between them.
WINDOWS = ((2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0), (3, 3, 0))


def cases() -> Iterator[Case]:
    """Greatest and mean of windows, and of everything."""
    for kernel, stride, pad in WINDOWS:
        window: dict[str, Any] = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [pad] * 4,
        }
        title = f"kernel {kernel}, stride {stride}, pad {pad}"
        yield Case(
            f"MaxPool {title}",
            (node("MaxPool", ["h"], ["out"], **window),),
            (3, 8, 7),
            partial(functional.max_pool2d, kernel_size=kernel, stride=stride, padding=pad),
        )
        for counted in (0, 1):
            yield Case(
                f"AveragePool {title}, {'with' if counted else 'without'} the pad",
                (node("AveragePool", ["h"], ["out"], count_include_pad=counted, **window),),
                (3, 8, 7),
                partial(
                    functional.avg_pool2d,
                    kernel_size=kernel,
                    stride=stride,
                    padding=pad,
                    count_include_pad=bool(counted),
                ),
            )
    for name, in_torch in {
        "MaxPool": functional.max_pool1d,
        "AveragePool": functional.avg_pool1d,
    }.items():
        yield Case(
            f"{name} of one dimension",
            (node(name, ["h"], ["out"], kernel_shape=[2], strides=[2]),),
            (3, 9),
            partial(in_torch, kernel_size=2),
        )
    yield Case(
        "MaxPool with ceil_mode",
        (node("MaxPool", ["h"], ["out"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),),
        (3, 7, 7),
        partial(functional.max_pool2d, kernel_size=2, ceil_mode=True),
    )
    yield Case(
        "GlobalAveragePool",
        (node("GlobalAveragePool", ["h"], ["out"]),),
        (3, 5, 5),
        lambda h: h.mean((2, 3), keepdim=True),
    )
