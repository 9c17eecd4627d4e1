"""Which rule an operator has. What is not here can be run on a device, but not trained through."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from controller.train_step.rules import (
    activation,
    arithmetic,
    convolution,
    indexing,
    linear,
    normalization,
    pooling,
    reduction,
    reshaping,
)
from controller.train_step.site import Rule

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        **arithmetic.RULES,
        **activation.RULES,
        **linear.RULES,
        **normalization.RULES,
        **convolution.RULES,
        **pooling.RULES,
        **reshaping.RULES,
        **indexing.RULES,
        **reduction.RULES,
    }
)
"""By operator of ONNX itself."""
