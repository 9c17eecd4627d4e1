"""Rules for activations. Where a slope jumps it is the left one's, as in Relu(0) = 0."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from controller.train_step.emitter import Emitter
from controller.train_step.rules.arithmetic import elementwise
from controller.train_step.site import Gradients, Rule, Site

STEEPEST: Final = 3.4e38  # just below the largest float32
_TANH_CUBIC: Final = 0.044715  # of the usual approximation of Gelu


def relu(site: Site) -> Gradients:
    """Relu. Its output is never negative, so one HardSigmoid is the mask: 3.7 times Sign's speed."""
    e = site.emitter
    mask = e.op("HardSigmoid", site.output, alpha=STEEPEST, beta=0.0)
    return [e.op("Mul", site.gradient, mask)]


def leaky_relu(site: Site) -> Gradients:
    """LeakyRelu."""
    e, x = site.emitter, site.input(0)
    slope = e.number(site.attributes.number("alpha", 0.01))
    positive = e.op("Greater", x, e.number(0.0))
    return [e.op("Where", positive, site.gradient, e.op("Mul", site.gradient, slope))]


def elu(site: Site) -> Gradients:
    """Elu: left of zero its slope is its value plus alpha."""
    e, x = site.emitter, site.input(0)
    slope = e.op("Add", site.output, e.number(site.attributes.number("alpha", 1.0)))
    positive = e.op("Greater", x, e.number(0.0))
    return [e.op("Where", positive, site.gradient, e.op("Mul", site.gradient, slope))]


def hard_sigmoid(site: Site) -> Gradients:
    """HardSigmoid."""
    e, y = site.emitter, site.output
    inside = e.op("And", e.op("Greater", y, e.number(0.0)), e.op("Less", y, e.number(1.0)))
    slope = e.number(site.attributes.number("alpha", 0.2))
    return [e.op("Where", inside, e.op("Mul", site.gradient, slope), e.number(0.0))]


def _hard_swish(e: Emitter, x: str, _y: str, g: str) -> str:  # x * clip(x/6 + 1/2, 0, 1)
    middle = e.op("Add", e.op("Mul", x, e.number(1 / 3)), e.number(0.5))
    upper = e.op("Where", e.op("Less", x, e.number(3.0)), middle, e.number(1.0))
    slope = e.op("Where", e.op("Greater", x, e.number(-3.0)), upper, e.number(0.0))
    return e.op("Mul", g, slope)


def gelu(site: Site) -> Gradients:
    """Gelu, exact or by tanh."""
    approximate = site.attributes.text("approximate", "none") == "tanh"
    slope = _gelu_tanh_slope if approximate else _gelu_slope
    return [site.emitter.op("Mul", site.gradient, slope(site.emitter, site.input(0)))]


def _gelu_slope(e: Emitter, x: str) -> str:
    """Of ``x Phi(x)``: ``Phi(x) + x phi(x)``."""
    error = e.op("Erf", e.op("Mul", x, e.number(np.sqrt(0.5))))
    cumulative = e.op("Mul", e.number(0.5), e.op("Add", e.number(1.0), error))
    bell = e.op("Exp", e.op("Mul", e.number(-0.5), e.op("Mul", x, x)))
    density = e.op("Mul", e.number(1 / np.sqrt(2 * np.pi)), bell)
    return e.op("Add", cumulative, e.op("Mul", x, density))


def _gelu_tanh_slope(e: Emitter, x: str) -> str:
    one, scale = e.number(1.0), e.number(np.sqrt(2 / np.pi))
    square = e.op("Mul", x, x)
    inner = e.op("Add", one, e.op("Mul", square, e.number(_TANH_CUBIC)))
    tanh = e.op("Tanh", e.op("Mul", e.op("Mul", x, scale), inner))
    inner_slope = e.op("Add", one, e.op("Mul", square, e.number(3 * _TANH_CUBIC)))
    falling = e.op("Sub", one, e.op("Mul", tanh, tanh))
    tanh_slope = e.op("Mul", falling, e.op("Mul", scale, inner_slope))
    both = e.op("Add", e.op("Add", one, tanh), e.op("Mul", x, tanh_slope))
    return e.op("Mul", e.number(0.5), both)


def clip(site: Site) -> Gradients:
    """Clip: at a bound the slope is 0, as of relu6.

    Within the bounds the distances of its output to both are above 0, so one HardSigmoid is the mask:
    twice as fast as comparing and choosing.
    """
    e, y, low, high = site.emitter, site.output, site.input(1), site.input(2)
    if any(site.needed[1:]):
        raise site.refusal("its bounds can't be trained")
    inside = [e.op("Sub", y, low)] if low else []
    inside += [e.op("Sub", high, y)] if high else []
    if not inside:
        return [site.gradient]
    both = inside[0] if len(inside) == 1 else e.op("Min", *inside)
    mask = e.op("HardSigmoid", both, alpha=STEEPEST, beta=0.0)
    return [e.op("Mul", site.gradient, mask)]


def prelu(site: Site) -> Gradients:
    """PRelu, its slopes trained, too."""
    e, (x, slopes) = site.emitter, site.node.input
    positive = e.op("Greater", x, e.number(0.0))
    of_x = of_slopes = None
    if site.needed[0]:
        of_x = e.op("Where", positive, site.gradient, e.op("Mul", site.gradient, slopes))
    if site.needed[1]:
        left = e.op("Where", positive, e.number(0.0), e.op("Mul", site.gradient, x))
        of_slopes = site.unbroadcast(left, site.output, slopes)
    return [of_x, of_slopes]


def _tanh(e: Emitter, _x: str, y: str, g: str) -> str:
    return e.op("Mul", g, e.op("Sub", e.number(1.0), e.op("Mul", y, y)))


def _sigmoid(e: Emitter, _x: str, y: str, g: str) -> str:
    return e.op("Mul", g, e.op("Mul", y, e.op("Sub", e.number(1.0), y)))


RULES: Final[Mapping[str, Rule]] = {
    "Relu": relu,
    "LeakyRelu": leaky_relu,
    "Elu": elu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": elementwise(_hard_swish),
    "Gelu": gelu,
    "Clip": clip,
    "PRelu": prelu,
    "Tanh": elementwise(_tanh),
    "Sigmoid": elementwise(_sigmoid),
    "Softplus": elementwise(lambda e, x, _y, g: e.op("Mul", g, e.op("Sigmoid", x))),
}
