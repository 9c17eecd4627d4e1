"""How a kernel moves over its input."""

from dataclasses import dataclass, replace
from typing import Final

from controller.train_step.site import Site

_SAME: Final = ("SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True)
class Geometry:
    """Of a convolution or a pooling, from its input to its output; one number an axis of space.

    Attributes:
        size: of the input.
        out: of the output.
        begin: padding before the input; ``end``: behind it.
    """

    size: list[int]
    out: list[int]
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]
    groups: int

    @property
    def axes(self) -> int:
        """How many axes of space there are."""
        return len(self.kernel)

    @property
    def pads(self) -> list[int]:
        """As ONNX writes them."""
        return [*self.begin, *self.end]

    @property
    def reach(self) -> list[int]:
        """From the first to the last element that a kernel touches."""
        pairs = zip(self.dilations, self.kernel, strict=True)
        return [dilation * (length - 1) for dilation, length in pairs]

    @property
    def unit_strides(self) -> bool:
        """Whether it moves by single steps."""
        return all(step == 1 for step in self.strides)

    @property
    def pointwise(self) -> bool:
        """Whether each output is of one point of the input, in its place."""
        lone = all(length == 1 for length in self.kernel)
        return lone and self.unit_strides and not any(self.pads)

    def without_end(self, spare: list[int]) -> "Geometry":
        """With so much less padding behind."""
        return replace(self, end=[pad - less for pad, less in zip(self.end, spare, strict=True)])


def geometry(site: Site, wide: str, narrow: str, kernel: list[int], groups: int = 1) -> Geometry:
    """Of the node, between its larger side and its smaller one.

    Raises:
        NoGradientRule: an axis of space has no fixed length.
    """
    axes, attributes = len(kernel), site.attributes
    size = [site.length(wide, axis) for axis in range(2, 2 + axes)]
    out = [site.length(narrow, axis) for axis in range(2, 2 + axes)]
    strides = attributes.integers("strides", [1] * axes)
    dilations = attributes.integers("dilations", [1] * axes)
    pads = attributes.integers("pads", [0] * 2 * axes)
    auto = attributes.text("auto_pad", "NOTSET")
    found = Geometry(size, out, kernel, strides, dilations, pads[:axes], pads[axes:], groups)
    return _same(found, upper=auto == "SAME_UPPER") if auto in _SAME else found


def _same(geometry: Geometry, *, upper: bool) -> Geometry:
    """With the padding that makes the output as long as the input over the stride, rounded up."""
    whole = [
        max((-(-size // step) - 1) * step + reach + 1 - size, 0)
        for size, step, reach in zip(geometry.size, geometry.strides, geometry.reach, strict=True)
    ]
    small = [one // 2 for one in whole]
    large = [one - less for one, less in zip(whole, small, strict=True)]
    begin, end = (small, large) if upper else (large, small)
    return replace(geometry, begin=begin, end=end)
